//! Distributions as boxes.

use plotters::prelude::*;

use crate::axes::{Axis, axes};
use crate::error::Result;
use crate::look::Look;
use crate::sheet::{INK, WIDTH, sheet, whisker};

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
/// [`crate::Error::Drawing`] when the drawing library fails.
pub fn boxes(title: &str, y_label: &str, boxes: &[BoxPlot]) -> Result<String> {
    let looks: Vec<Look> = boxes.iter().map(|b| b.look.of_bars()).collect();
    let top = boxes.iter().map(|b| b.marks[4]).fold(1.0, f64::max) * 1.06;
    sheet(title, (WIDTH, 320), &looks, |area| {
        let ends = (-0.5, boxes.len() as f64 - 0.5);
        let mut axes = axes(area, Axis::bare(ends), Axis::new(y_label, (0.0, top)))?;
        for (i, BoxPlot { look, marks: [low, first, median, third, high] }) in
            boxes.iter().enumerate()
        {
            let x = i as f64;
            let place = |y: &f64| axes.backend_coord(&(x, *y));
            whisker(area, [place(low), place(first)], INK)?;
            whisker(area, [place(third), place(high)], INK)?;
            let (left, right) = (x - 0.25, x + 0.25);
            let color = look.color;
            axes.draw_series([Rectangle::new([(left, *first), (right, *third)], color.filled())])?;
            let line = INK.stroke_width(2);
            axes.draw_series([PathElement::new(vec![(left, *median), (right, *median)], line)])?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_named() {
        let plot = BoxPlot { look: Look::new("a <model>", 0), marks: [1.0, 2.0, 3.0, 4.0, 9.0] };
        let svg = boxes("Length", "words", &[plot]).unwrap();
        assert!(svg.contains("a &lt;model&gt;") && svg.contains("Length") && svg.contains("words"));
        assert!(boxes("Length", "words", &[]).unwrap().contains("</svg>"));
    }
}
