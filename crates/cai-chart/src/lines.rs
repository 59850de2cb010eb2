//! Lines over a common horizontal axis.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use crate::axes::{Axes, Axis, axes};
use crate::error::{Error, Result};
use crate::look::Look;
use crate::sheet::{Area, Drawn, INK, TEXT_SIZE, WIDTH, dashed, sheet, style, text};

/// A line through points, in their order; points that are not finite are left out.
pub struct Line {
    /// How it looks.
    pub look: Look,
    /// The points (x, y).
    pub points: Vec<(f64, f64)>,
    /// Whether each point is marked.
    pub marked: bool,
}

impl Line {
    fn finite(&self) -> impl Iterator<Item = (f64, f64)> + Clone {
        self.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite())
    }
}

/// Lines as far as they reach, with a dashed horizontal reference line if given.
///
/// # Errors
/// [`Error::Nothing`] without a finite point, [`Error::Drawing`] when the drawing library fails.
pub fn lines(
    title: &str,
    x_label: &str,
    y_label: &str,
    lines: &[Line],
    reference: Option<(f64, &str)>,
) -> Result<String> {
    let points = || lines.iter().flat_map(Line::finite);
    let nothing = || Error::Nothing { title: title.into() };
    let x = extent(points().map(|point| point.0), 0.0).ok_or_else(nothing)?;
    let heights = points().map(|point| point.1).chain(reference.map(|(y, _)| y));
    let y = extent(heights, 0.06).ok_or_else(nothing)?;
    sheet(title, (WIDTH, 340), &legend(lines), |area| {
        let mut axes = axes(area, Axis::new(x_label, x), Axis::new(y_label, y))?;
        if let Some((height, label)) = reference {
            let [left, right] = [x.0, x.1].map(|x| axes.backend_coord(&(x, height)));
            dashed(area, [left, right], INK.stroke_width(1))?;
            let above = (right.0 - 6, right.1 - 19);
            text(area, label, above, style(TEXT_SIZE - 2, HPos::Right, VPos::Top))?;
        }
        draw(area, &mut axes, lines)
    })
}

/// What the legend shows of lines: their markers, or a piece of a line that has none.
pub(crate) fn legend(lines: &[Line]) -> Vec<Look> {
    let look = |line: &Line| if line.marked { line.look.clone() } else { line.look.of_line() };
    lines.iter().map(look).collect()
}

/// Draws lines, and the marks on them.
pub(crate) fn draw(area: &Area, axes: &mut Axes, lines: &[Line]) -> Drawn {
    for line in lines {
        axes.draw_series(LineSeries::new(line.finite(), line.look.color.stroke_width(2)))?;
        for point in line.finite().filter(|_| line.marked) {
            line.look.marker(area, axes.backend_coord(&point))?;
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_is_left_out_and_nothing_left_is_an_error() {
        let svg = |points, marked| {
            let line = Line { look: Look::new("loss", 0), points, marked };
            lines("Loss", "step", "loss", &[line], Some((0.7, "ln 2 & more")))
        };
        let points = vec![(0.0, 0.69), (10.0, f64::NAN), (20.0, 0.4)];
        let drawn = svg(points.clone(), true).unwrap();
        // Two points, and the legend's.
        assert_eq!(drawn.matches("<circle").count(), 3);
        assert!(!drawn.contains("NaN") && drawn.contains("ln 2 &amp; more"));
        assert!(!svg(points, false).unwrap().contains("<circle"));
        let error = svg(vec![(0.0, f64::INFINITY)], true).unwrap_err();
        assert!(error.to_string().contains("Loss") && matches!(error, Error::Nothing { .. }));
        svg(vec![(1.0, 2.0)], true).unwrap();
    }
}
