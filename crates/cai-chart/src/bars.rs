//! Bars side by side in groups, with intervals.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use crate::axes::{Axis, axes};
use crate::error::Result;
use crate::look::Look;
use crate::sheet::{INK, TEXT_SIZE, WIDTH, fitted, sheet, style, text, whisker};
use crate::values::Series;

/// Bars from 0 to 1, a group of them for each place of the series.
///
/// # Errors
/// [`crate::Error::Drawing`] when the drawing library fails.
pub fn bars(title: &str, y_label: &str, groups: &[&str], series: &[Series]) -> Result<String> {
    let looks: Vec<Look> = series.iter().map(|bars| bars.look.of_bars()).collect();
    sheet(title, (WIDTH, 320), &looks, |area| {
        let ends = (-0.5, groups.len() as f64 - 0.5);
        let mut axes = axes(area, Axis::bare(ends), Axis::new(y_label, (0.0, 1.0)))?;
        let room = axes.plotting_area().dim_in_pixel().0 as i32 / groups.len().max(1) as i32;
        let width = 0.8 / series.len().max(1) as f64;
        for (group, label) in groups.iter().enumerate() {
            let (x, y) = axes.backend_coord(&(group as f64, 0.0));
            let label = fitted(label, room);
            text(area, &label, (x, y + 8), style(TEXT_SIZE, HPos::Center, VPos::Top))?;
            for (i, bars) in series.iter().enumerate() {
                let Some(span) = bars.values.get(group).copied().flatten() else {
                    continue;
                };
                let left = group as f64 - 0.4 + width * (i as f64 + 0.06);
                let right = group as f64 - 0.4 + width * (i as f64 + 0.94);
                axes.draw_series([Rectangle::new(
                    [(left, 0.0), (right, span.value)],
                    bars.look.color.filled(),
                )])?;
                if let Some((low, high)) = span.interval() {
                    let place = |y| axes.backend_coord(&((left + right) / 2.0, y));
                    whisker(area, [place(low), place(high)], INK)?;
                }
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::Span;

    #[test]
    fn each_value_is_a_bar_with_its_interval_and_absent_ones_leave_a_gap() {
        let span = |low, high| Some(Span { value: 0.4, low, high });
        let parts = |values| {
            let series = [Series { look: Look::new("sft", 0), values }];
            let svg = bars("Bars", "share", &["a", "<b>"], &series).unwrap();
            assert!(svg.contains("sft") && svg.contains("&lt;b&gt;"));
            (svg.matches("<rect").count(), svg.matches("<polyline").count())
        };
        let (rectangles, lines) = parts(vec![span(None, None), None]);
        let one_more = parts(vec![span(None, None), span(None, None)]);
        assert_eq!(one_more, (rectangles + 1, lines));
        // A line and two caps.
        assert_eq!(parts(vec![span(Some(0.3), Some(0.5))]), (rectangles, lines + 3));
    }
}
