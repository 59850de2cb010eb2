//! The square from 0 to 1 both ways: points with intervals, and curves.

use plotters::style::Color;

use crate::axes::{Axes, Axis, BELOW, BESIDE, axes};
use crate::error::Result;
use crate::lines::{self, Line};
use crate::look::{GREY, Look};
use crate::sheet::{Area, Drawn, INK, SIDES, dashed, sheet, whisker};
use crate::values::Span;

/// Side of the square, in pixels.
const SIDE: u32 = 440;

/// A point with intervals in both directions.
pub struct Point {
    /// How it looks.
    pub look: Look,
    /// Horizontal place.
    pub x: Span,
    /// Vertical place.
    pub y: Span,
}

/// Points with intervals, and the diagonal if asked for.
///
/// # Errors
/// [`crate::Error::Drawing`] when the drawing library fails.
pub fn plane(
    title: &str,
    x_label: &str,
    y_label: &str,
    points: &[Point],
    diagonal: bool,
) -> Result<String> {
    let looks: Vec<Look> = points.iter().map(|point| point.look.clone()).collect();
    square(title, x_label, y_label, &looks, diagonal, |area, axes| {
        for Point { x, y, .. } in points {
            let place = |x, y| axes.backend_coord(&(x, y));
            if let Some((low, high)) = x.interval() {
                whisker(area, [place(low, y.value), place(high, y.value)], INK)?;
            }
            if let Some((low, high)) = y.interval() {
                whisker(area, [place(x.value, low), place(x.value, high)], INK)?;
            }
        }
        for Point { look, x, y } in points {
            look.marker(area, axes.backend_coord(&(x.value, y.value)))?;
        }
        Ok(())
    })
}

/// Lines, and the diagonal if asked for.
///
/// # Errors
/// [`crate::Error::Drawing`] when the drawing library fails.
pub fn curves(
    title: &str,
    x_label: &str,
    y_label: &str,
    lines: &[Line],
    diagonal: bool,
) -> Result<String> {
    square(title, x_label, y_label, &lines::legend(lines), diagonal, |area, axes| {
        lines::draw(area, axes, lines)
    })
}

fn square(
    title: &str,
    x_label: &str,
    y_label: &str,
    looks: &[Look],
    diagonal: bool,
    draw: impl FnOnce(&Area, &mut Axes) -> Drawn,
) -> Result<String> {
    let size = (SIDE + BESIDE + SIDES as u32, SIDE + BELOW);
    sheet(title, size, looks, |area| {
        let axis = |label| Axis { ticks: 6, ..Axis::new(label, (-0.02, 1.02)) };
        let mut axes = axes(area, axis(x_label), axis(y_label))?;
        if diagonal {
            let ends = [0.0, 1.0].map(|end| axes.backend_coord(&(end, end)));
            dashed(area, ends, GREY.stroke_width(1))?;
        }
        draw(area, &mut axes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_and_curves_are_drawn_with_the_diagonal_only_where_asked_for() {
        let span = |value| Span { value, low: Some(value - 0.1), high: Some(value + 0.1) };
        let point = [Point { look: Look::new("dpo", 0), x: span(0.4), y: span(0.6) }];
        let points = vec![(0.0, 0.0), (1.0, 1.0)];
        let curve = [Line { look: Look::new("toxic (0.9)", 0), points, marked: true }];
        let grey = |svg: &str| svg.contains("#999999");
        for diagonal in [false, true] {
            let svg = plane("Plane", "judge", "evaluator", &point, diagonal).unwrap();
            assert_eq!((svg.matches("<circle").count(), grey(&svg)), (2, diagonal));
            let svg = curves("ROC", "false", "true", &curve, diagonal).unwrap();
            assert_eq!((svg.matches("<circle").count(), grey(&svg)), (3, diagonal));
            assert!(svg.contains("toxic (0.9)"));
        }
    }
}
