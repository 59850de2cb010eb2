//! The square from 0 to 1 both ways: points with intervals, and curves.

use plotters::style::Color;

use crate::axes::{Axes, Axis, BELOW, BESIDE, axes};
use crate::error::Result;
use crate::lines::{self, Line};
use crate::look::{GREY, Look};
use crate::sheet::{Area, Drawn, INK, SIDES, dashed, sheet, whisker};
use crate::values::Span;

/// Side of the square, in pixels: two such figures stand side by side on a page.
const SIDE: u32 = 350;

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
    fn points_have_their_intervals_in_both_directions() {
        let paths = |low, high| {
            let (x, y) = (Span { value: 0.4, low, high }, Span { value: 0.6, low, high });
            let points = [Point { look: Look::new("dpo", 0), x, y }];
            let svg = plane("Plane", "judge", "evaluator", &points, false).unwrap();
            // The point, and the legend's.
            assert_eq!(svg.matches("<circle").count(), 2);
            svg.matches("<polyline").count()
        };
        // Each interval is a line with two caps.
        assert_eq!(paths(Some(0.3), Some(0.7)), paths(None, None) + 2 * 3);
    }

    #[test]
    fn the_diagonal_is_dashed_and_only_where_asked_for() {
        let points = vec![(0.0, 0.0), (1.0, 1.0)];
        let lines = [Line { look: Look::new("toxic (0.9)", 0), points, marked: true }];
        for diagonal in [false, true] {
            let svg = curves("ROC", "false", "true", &lines, diagonal).unwrap();
            assert!(svg.contains("toxic (0.9)"));
            assert_eq!(svg.matches("<circle").count(), 3);
            assert_eq!(svg.matches("#999999").count() > 10, diagonal, "{svg}");
            let svg = plane("Plane", "judge", "evaluator", &[], diagonal).unwrap();
            assert_eq!(svg.contains("#999999"), diagonal);
        }
    }
}
