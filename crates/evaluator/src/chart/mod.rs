//! Drawing: bars, points and lines with axes, legend and intervals, as SVG text.
//!
//! Colours are those of Okabe and Ito (Color Universal Design, 2008), which people with any kind
//! of colour vision tell apart; points and lines differ in shape or label as well.

mod radar;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::error::{Error, Result};
use crate::stats::Estimate;

/// Width of every figure, in pixels.
const WIDTH: u32 = 900;
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const FAINT: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);
const PALETTE: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0xb8, 0xac, 0x18),
];
/// The colour of baselines.
const GREY: RGBColor = RGBColor(0x99, 0x99, 0x99);

const FONT: &str = "sans-serif";
const TITLE_SIZE: i32 = 24;
const TEXT_SIZE: i32 = 17;
/// Mean width of a letter of a legend, in pixels: only used to break its lines.
const LETTER: i32 = 8;
const MARGIN: i32 = 20;

pub use radar::radar;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Axes<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// How one model, or one line, looks everywhere in a report.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// Its name in the legend.
    pub name: String,
    color: RGBColor,
    shape: Shape,
}

#[derive(Copy, Clone, Debug, PartialEq)]
enum Shape {
    Circle,
    Square,
    Triangle,
    Diamond,
    Cross,
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
    fn of_bars(&self) -> Self {
        Look { shape: Shape::Square, ..self.clone() }
    }
}

/// Bars of one colour, one per group of bars; absent ones leave a gap.
pub struct Bars {
    /// How they look.
    pub look: Look,
    /// Heights with their intervals.
    pub values: Vec<Option<Estimate>>,
}

/// A point with intervals in both directions.
pub struct Point {
    /// How it looks.
    pub look: Look,
    /// Horizontal place.
    pub x: Estimate,
    /// Vertical place.
    pub y: Estimate,
}

/// A line through points, in their order.
pub struct Line {
    /// How it looks.
    pub look: Look,
    /// The points (x, y).
    pub points: Vec<(f64, f64)>,
}

/// Bars side by side in groups, from 0 to 1.
///
/// # Errors
/// [`Error::Figure`] when the drawing library fails.
pub fn bars(title: &str, y_label: &str, groups: &[&str], series: &[Bars]) -> Result<String> {
    let looks: Vec<Look> = series.iter().map(|bars| bars.look.of_bars()).collect();
    figure(title, 440, &looks, |area| {
        let mut axes = axes(area, (-0.5, groups.len() as f64 - 0.5), (0.0, 1.0))?;
        mesh(&mut axes, None, y_label)?;
        let width = 0.8 / series.len().max(1) as f64;
        for (group, label) in groups.iter().enumerate() {
            let (x, y) = axes.backend_coord(&(group as f64, 0.0));
            text(area, label, (x, y + 8), TEXT_SIZE, HPos::Center)?;
            for (i, bars) in series.iter().enumerate() {
                let Some(value) = bars.values.get(group).copied().flatten() else {
                    continue;
                };
                let left = group as f64 - 0.4 + width * (i as f64 + 0.06);
                let right = group as f64 - 0.4 + width * (i as f64 + 0.94);
                axes.draw_series([Rectangle::new(
                    [(left, 0.0), (right, value.mean)],
                    bars.look.color.filled(),
                )])?;
                let middle = (left + right) / 2.0;
                let below = axes.backend_coord(&(middle, value.low.unwrap_or(value.mean)));
                let above = axes.backend_coord(&(middle, value.high.unwrap_or(value.mean)));
                whisker(area, below, above, true)?;
            }
        }
        Ok(())
    })
}

/// A box: five numbers of a distribution.
pub struct BoxPlot {
    /// How it looks.
    pub look: Look,
    /// Tenth percentile, quartiles with the median between them, ninetieth percentile.
    pub marks: [f64; 5],
}

/// Boxes side by side: the middle half of the values as a box, the median as a line across it, and
/// whiskers to the tenth and the ninetieth percentile.
///
/// # Errors
/// [`Error::Figure`] when the drawing library fails.
pub fn boxes(title: &str, y_label: &str, boxes: &[BoxPlot]) -> Result<String> {
    let looks: Vec<Look> = boxes.iter().map(|b| b.look.of_bars()).collect();
    let top = boxes.iter().map(|b| b.marks[4]).fold(1.0, f64::max) * 1.06;
    figure(title, 440, &looks, |area| {
        let mut axes = axes(area, (-0.5, boxes.len() as f64 - 0.5), (0.0, top))?;
        mesh(&mut axes, None, y_label)?;
        for (i, BoxPlot { look, marks: [low, first, median, third, high] }) in
            boxes.iter().enumerate()
        {
            let x = i as f64;
            let place = |y: &f64| axes.backend_coord(&(x, *y));
            whisker(area, place(low), place(first), true)?;
            whisker(area, place(third), place(high), true)?;
            let (left, right) = (x - 0.25, x + 0.25);
            let color = look.color;
            axes.draw_series([Rectangle::new([(left, *first), (right, *third)], color.filled())])?;
            let line = INK.stroke_width(2);
            axes.draw_series([PathElement::new(vec![(left, *median), (right, *median)], line)])?;
        }
        Ok(())
    })
}

/// Points with intervals on a square from 0 to 1, with the diagonal if asked for.
///
/// # Errors
/// [`Error::Figure`] when the drawing library fails.
pub fn plane(
    title: &str,
    x_label: &str,
    y_label: &str,
    points: &[Point],
    diagonal: bool,
) -> Result<String> {
    let looks: Vec<Look> = points.iter().map(|point| point.look.clone()).collect();
    figure(title, 620, &looks, |area| {
        let mut axes = axes(area, (-0.02, 1.02), (-0.02, 1.02))?;
        mesh(&mut axes, Some(x_label), y_label)?;
        if diagonal {
            axes.draw_series([PathElement::new(vec![(0.0, 0.0), (1.0, 1.0)], GREY)])?;
        }
        for Point { x, y, .. } in points {
            let from = axes.backend_coord(&(x.low.unwrap_or(x.mean), y.mean));
            let to = axes.backend_coord(&(x.high.unwrap_or(x.mean), y.mean));
            whisker(area, from, to, false)?;
            let from = axes.backend_coord(&(x.mean, y.low.unwrap_or(y.mean)));
            let to = axes.backend_coord(&(x.mean, y.high.unwrap_or(y.mean)));
            whisker(area, from, to, true)?;
        }
        for point in points {
            marker(area, axes.backend_coord(&(point.x.mean, point.y.mean)), &point.look)?;
        }
        Ok(())
    })
}

/// Lines over a common horizontal axis, with a dashed horizontal reference line if given.
///
/// # Errors
/// [`Error::Figure`] when nothing can be drawn: no finite point, or the drawing library fails.
pub fn lines(
    title: &str,
    lines: &[Line],
    x_label: &str,
    y_label: &str,
    reference: Option<(f64, &str)>,
) -> Result<String> {
    let finite = |(x, y): &&(f64, f64)| x.is_finite() && y.is_finite();
    let points = || lines.iter().flat_map(|line| line.points.iter().filter(finite));
    let nothing = || Error::Figure {
        title: title.into(),
        reason: "there is no finite point to draw; give at least one".into(),
    };
    let x = extent(points().map(|point| point.0), 0.0).ok_or_else(nothing)?;
    let heights = points().map(|point| point.1).chain(reference.map(|(y, _)| y));
    let y = extent(heights, 0.06).ok_or_else(nothing)?;
    let looks: Vec<Look> = lines.iter().map(|line| line.look.clone()).collect();
    figure(title, 440, &looks, |area| {
        let mut axes = axes(area, x, y)?;
        mesh(&mut axes, Some(x_label), y_label)?;
        if let Some((height, label)) = reference {
            let style = ShapeStyle::from(&INK).stroke_width(1);
            let ends = [(x.0, height), (x.1, height)];
            axes.draw_series(DashedLineSeries::new(ends, 6, 4, style))?;
            let (right, level) = axes.backend_coord(&(x.1, height));
            text(area, label, (right - 6, level - 19), TEXT_SIZE - 2, HPos::Right)?;
        }
        for line in lines {
            let style = ShapeStyle::from(&line.look.color).stroke_width(2);
            let points: Vec<(f64, f64)> = line.points.iter().filter(finite).copied().collect();
            let few = points.len() <= 40;
            let places: Vec<(i32, i32)> =
                points.iter().map(|point| axes.backend_coord(point)).collect();
            axes.draw_series(LineSeries::new(points, style))?;
            for place in places.into_iter().filter(|_| few) {
                marker(area, place, &line.look)?;
            }
        }
        Ok(())
    })
}

/// The range of the values, widened by `margin` of its size at both ends, and never empty.
fn extent(values: impl Iterator<Item = f64> + Clone, margin: f64) -> Option<(f64, f64)> {
    let low = values.clone().reduce(f64::min)?;
    let high = values.reduce(f64::max)?;
    if low == high {
        let room = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
        return Some((low - room, high + room));
    }
    let room = margin * (high - low);
    Some((low - room, high + room))
}

/// A white sheet with title and legend; `draw` gets the rest of it.
fn figure(
    title: &str,
    height: u32,
    looks: &[Look],
    draw: impl FnOnce(&Area) -> Drawn,
) -> Result<String> {
    let mut svg = String::new();
    let drawn = (|| {
        let sheet = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        sheet.fill(&WHITE)?;
        text(&sheet, title, (MARGIN, 12), TITLE_SIZE, HPos::Left)?;
        let below = legend(&sheet, looks, 50)?;
        draw(&sheet.margin(below, MARGIN, MARGIN, MARGIN + 10))?;
        sheet.present()?;
        Ok(())
    })();
    drawn.map_err(|reason: Box<dyn std::error::Error>| Error::Figure {
        title: title.into(),
        reason: reason.to_string(),
    })?;
    Ok(svg)
}

/// Draws the legend from `top` down, in as many lines as it needs; returns where it ends.
fn legend(sheet: &Area, looks: &[Look], top: i32) -> Drawn<i32> {
    let (mut x, mut y) = (MARGIN + 10, top + 8);
    for look in looks {
        let width = 18 + LETTER * look.name.chars().count() as i32 + 24;
        if x + width > WIDTH as i32 - MARGIN && x > MARGIN + 10 {
            (x, y) = (MARGIN + 10, y + 24);
        }
        marker(sheet, (x, y), look)?;
        text(sheet, &look.name, (x + 14, y - 8), TEXT_SIZE, HPos::Left)?;
        x += width;
    }
    Ok(y + 22)
}

fn axes<'a>(area: &Area<'a>, x: (f64, f64), y: (f64, f64)) -> Drawn<Axes<'a>> {
    Ok(ChartBuilder::on(area)
        .margin_right(8)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d(x.0..x.1, y.0..y.1)?)
}

/// Grid, ticks and labels; no ticks on the horizontal axis without a label for it.
fn mesh(axes: &mut Axes, x_label: Option<&str>, y_label: &str) -> Drawn {
    let tick = |value: &f64| {
        let size = value.abs();
        if size < 1e-9 {
            "0".into()
        } else if size < 1e-3 {
            format!("{value:.1e}")
        } else if size < 10.0 && value.fract() != 0.0 {
            let decimals = if size < 0.095 { 3 } else { 2 };
            format!("{value:.decimals$}")
        } else {
            format!("{}", (value * 10.0).round() / 10.0)
        }
    };
    let font = (FONT, TEXT_SIZE).into_font().color(&INK);
    let mut mesh = axes.configure_mesh();
    mesh.light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .axis_style(INK)
        .label_style(font.clone())
        .axis_desc_style(font)
        .y_label_formatter(&tick)
        .x_label_formatter(&tick)
        .y_desc(y_label);
    match x_label {
        Some(label) => mesh.x_desc(label).draw()?,
        None => mesh.disable_x_mesh().x_labels(0).draw()?,
    }
    Ok(())
}

/// Words at a pixel: their top, and their left end, middle or right end.
fn text(area: &Area, words: &str, at: (i32, i32), size: i32, side: HPos) -> Drawn {
    let style = (FONT, size).into_font().color(&INK).pos(Pos::new(side, VPos::Top));
    area.use_screen_coord().draw(&Text::new(words.to_owned(), at, style))?;
    Ok(())
}

/// A line between two pixels on one level or above each other, with a cap at each end.
fn whisker(area: &Area, from: (i32, i32), to: (i32, i32), upright: bool) -> Drawn {
    let (dx, dy) = if upright { (4, 0) } else { (0, 4) };
    let cap = |(x, y): (i32, i32)| vec![(x - dx, y - dy), (x + dx, y + dy)];
    let screen = area.use_screen_coord();
    for path in [vec![from, to], cap(from), cap(to)] {
        screen.draw(&PathElement::new(path, INK))?;
    }
    Ok(())
}

/// A circle, square, triangle, diamond or cross around a pixel.
fn marker(area: &Area, (x, y): (i32, i32), look: &Look) -> Drawn {
    let screen = area.use_screen_coord();
    let place = |(dx, dy): &(i32, i32)| (x + dx, y + dy);
    let polygon = |corners: &[(i32, i32)]| {
        let corners: Vec<_> = corners.iter().map(place).collect();
        screen.draw(&Polygon::new(corners, look.color.filled()))
    };
    let stroke = |ends: [(i32, i32); 2]| {
        let path: Vec<_> = ends.iter().map(place).collect();
        screen.draw(&PathElement::new(path, look.color.stroke_width(3)))
    };
    match look.shape {
        Shape::Circle => screen.draw(&Circle::new((x, y), 6, look.color.filled()))?,
        Shape::Square => polygon(&[(-5, -5), (5, -5), (5, 5), (-5, 5)])?,
        Shape::Triangle => polygon(&[(0, -7), (7, 5), (-7, 5)])?,
        Shape::Diamond => polygon(&[(0, -7), (7, 0), (0, 7), (-7, 0)])?,
        Shape::Cross => {
            stroke([(-5, -5), (5, 5)])?;
            stroke([(-5, 5), (5, -5)])?;
        }
    }
    Ok(())
}
