//! Shares from round to round, with intervals.

use crate::axes::{Axis, axes};
use crate::error::Result;
use crate::lines::{Line, draw, legend};
use crate::sheet::{WIDTH, sheet, whisker};
use crate::values::{Series, Span};

/// Lines from 0 to 1, each over the rounds 0, 1, 2, … that it has values for.
///
/// # Errors
/// [`crate::Error::Drawing`] when the drawing library fails.
pub fn rounds(title: &str, series: &[Series]) -> Result<String> {
    let last = series.iter().map(|line| line.values.len()).max().unwrap_or(1).max(2) - 1;
    let (bottom, top) = (0.0, 1.02);
    // Lines side by side, so that no interval hides another.
    let middle = (series.len() as f64 - 1.0) / 2.0;
    let places = |i: usize| -> Vec<(f64, Span)> {
        let place = |round: usize| round as f64 + 0.03 * (i as f64 - middle);
        let values = series[i].values.iter().enumerate();
        values.filter_map(|(round, span)| Some((place(round), (*span)?))).collect()
    };
    let line = |i: usize| Line {
        look: series[i].look.clone(),
        points: places(i).into_iter().map(|(x, span)| (x, span.value)).collect(),
        marked: true,
    };
    let lines: Vec<Line> = (0..series.len()).map(line).collect();
    sheet(title, (WIDTH, 340), &legend(&lines), |area| {
        let x = Axis { ticks: last + 1, ..Axis::new("round", (-0.2, last as f64 + 0.2)) };
        let mut axes = axes(area, x, Axis::new("", (bottom, top)))?;
        for (i, line) in lines.iter().enumerate() {
            for (x, span) in places(i) {
                if let Some((low, high)) = span.interval() {
                    let ends = [low.max(bottom), high.min(top)];
                    let ends = ends.map(|y| axes.backend_coord(&(x, y)));
                    whisker(area, ends, line.look.color)?;
                }
            }
        }
        draw(area, &mut axes, &lines)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::look::Look;

    #[test]
    fn rounds_hold_their_words_and_values() {
        let scores = |margin: Option<f64>| {
            let span = |value| {
                let (low, high) = (margin.map(|m| value - m), margin.map(|m| value + m));
                Some(Span { value, low, high })
            };
            let harmless = vec![span(0.2), span(0.7), None];
            let series = [
                Series { look: Look::new("harmless", 0), values: harmless },
                Series { look: Look::new("helpful", 0), values: vec![span(0.5)] },
            ];
            rounds("Scores", &series).unwrap()
        };
        let svg = scores(Some(0.1));
        for words in ["Scores", "harmless", "helpful", "round"] {
            assert!(svg.contains(words), "{words}");
        }
        // Three values, and two entries of the legend.
        assert_eq!(svg.matches("<circle").count(), 3 + 2);
        // Each interval is a line with two caps.
        let paths = |svg: &str| svg.matches("<polyline").count();
        assert_eq!(paths(&svg), paths(&scores(None)) + 3 * 3);
    }
}
