//! Colours and shapes: how one model, or one line, is told from the others.

use plotters::prelude::*;

use crate::sheet::{Area, Drawn};

/// The colours of Okabe and Ito without black, their yellow darkened: a thin line of it is seen on white.
pub(crate) const PALETTE: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0xb8, 0xac, 0x18),
];
/// The colour of baselines.
pub(crate) const GREY: RGBColor = RGBColor(0x99, 0x99, 0x99);

/// How one model, or one line, looks everywhere in a report.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// Its name in the legend.
    pub name: String,
    pub(crate) color: RGBColor,
    shape: Shape,
}

#[derive(Copy, Clone, Debug, PartialEq)]
enum Shape {
    Circle,
    Square,
    Triangle,
    Diamond,
    Cross,
    Dash,
}

impl Look {
    /// The look of the `i`-th model or line.
    pub fn new(name: impl Into<String>, i: usize) -> Self {
        let shapes = [Shape::Circle, Shape::Square, Shape::Triangle, Shape::Diamond];
        Look {
            name: name.into(),
            color: PALETTE[i % PALETTE.len()],
            shape: shapes[i % shapes.len()],
        }
    }

    /// The look of a baseline.
    pub fn grey(name: impl Into<String>) -> Self {
        Look { name: name.into(), color: GREY, shape: Shape::Cross }
    }

    /// The same colour as a square: what a legend of bars shows.
    pub(crate) fn of_bars(&self) -> Self {
        Look { shape: Shape::Square, ..self.clone() }
    }

    /// The same colour as a dash: what a legend shows of a line without markers.
    pub(crate) fn of_line(&self) -> Self {
        Look { shape: Shape::Dash, ..self.clone() }
    }

    /// Draws the shape around a pixel.
    pub(crate) fn marker(&self, area: &Area, (x, y): (i32, i32)) -> Drawn {
        let screen = area.use_screen_coord();
        let place = |(dx, dy): &(i32, i32)| (x + dx, y + dy);
        let polygon = |corners: &[(i32, i32)]| {
            let corners: Vec<_> = corners.iter().map(place).collect();
            screen.draw(&Polygon::new(corners, self.color.filled()))
        };
        let stroke = |ends: [(i32, i32); 2]| {
            let path: Vec<_> = ends.iter().map(place).collect();
            screen.draw(&PathElement::new(path, self.color.stroke_width(3)))
        };
        match self.shape {
            Shape::Circle => screen.draw(&Circle::new((x, y), 6, self.color.filled()))?,
            Shape::Square => polygon(&[(-5, -5), (5, -5), (5, 5), (-5, 5)])?,
            Shape::Triangle => polygon(&[(0, -7), (7, 5), (-7, 5)])?,
            Shape::Diamond => polygon(&[(0, -7), (7, 0), (0, 7), (-7, 0)])?,
            Shape::Cross => {
                stroke([(-5, -5), (5, 5)])?;
                stroke([(-5, 5), (5, -5)])?;
            }
            Shape::Dash => stroke([(-9, 0), (9, 0)])?,
        }
        Ok(())
    }
}
