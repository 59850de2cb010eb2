//! Horizontal bars, one below the other, each with its label and value.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use crate::error::Result;
use crate::look::PALETTE;
use crate::sheet::{
    INK, LETTER, SIDES, TEXT_SIZE, WIDTH, dashed, fitted, number, sheet, style, text,
};

/// Height of a bar with its gap, in pixels.
const ROW: i32 = 26;
/// Height of a bar.
const BAR: i32 = 18;
/// Room for a value beside the longest bar.
const VALUE: i32 = 80;

/// Bars from 0 or across it, their values written as `show` does. `limit` is a value with its name: a
/// dashed line through all bars.
///
/// # Errors
/// [`crate::Error::Drawing`] when the drawing library fails.
pub fn rows(
    title: &str,
    rows: &[(String, f64)],
    show: fn(f64) -> String,
    limit: Option<(f64, &str)>,
) -> Result<String> {
    let longest = rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0) as i32;
    let left = (LETTER * longest).min(WIDTH as i32 / 2);
    let values = || rows.iter().map(|(_, value)| *value).chain(limit.map(|(value, _)| value));
    let (low, high) = (values().fold(0.0, f64::min), values().fold(0.0, f64::max));
    let range = if high > low { high - low } else { 1.0 };
    let end = ROW * rows.len().max(1) as i32;
    let height = if limit.is_some() { end + ROW } else { end };
    sheet(title, (WIDTH, height as u32), &[], |area| {
        let (across, down) = area.get_pixel_range();
        let (start, top) = (across.start + left + 10, down.start);
        let room = f64::from(WIDTH as i32 - SIDES - left - 10 - VALUE);
        let place = |value: f64| start + (room * (value - low) / range).round() as i32;
        let screen = area.use_screen_coord();
        for (i, (label, value)) in rows.iter().enumerate() {
            let y = top + ROW * i as i32 + (ROW - BAR) / 2;
            let label = fitted(label, left);
            text(area, &label, (start - 10, y + 2), style(TEXT_SIZE, HPos::Right, VPos::Top))?;
            let ends = [(place(value.min(0.0)), y), (place(value.max(0.0)), y + BAR)];
            screen.draw(&Rectangle::new(ends, PALETTE[0].filled()))?;
        }
        if let Some((value, name)) = limit {
            let (x, y) = (place(value), top + end);
            dashed(area, [(x, top), (x, y)], PALETTE[5].stroke_width(2))?;
            text(area, name, (x, y + 4), style(TEXT_SIZE - 2, HPos::Center, VPos::Top))?;
        }
        for (i, (_, value)) in rows.iter().enumerate() {
            let y = top + ROW * i as i32 + ROW / 2;
            number(area, &show(*value), (place(value.max(0.0)) + 6, y), TEXT_SIZE, HPos::Left)?;
        }
        screen.draw(&PathElement::new(vec![(place(0.0), top), (place(0.0), top + end)], INK))?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_hold_their_words_and_values() {
        let bars = [("danger".to_owned(), 3.0), ("<b>".to_owned(), -1.0)];
        let svg = rows("Bias", &bars, |value| format!("{value:+.1}"), None).unwrap();
        assert!(svg.contains("+3.0") && svg.contains("-1.0") && !svg.contains("<b>"));
        assert!(rows("None", &[], |value| value.to_string(), None).unwrap().contains("</svg>"));
    }

    #[test]
    fn a_limit_is_named_and_lies_in_the_figure() {
        let bars = [("spelling".to_owned(), 0.5)];
        let limit = Some((2.0, "at least"));
        let svg = rows("Kept", &bars, |value| format!("{value:.3}"), limit).unwrap();
        assert!(svg.contains("at least") && svg.contains("0.500"), "{svg}");
        assert!(svg.matches("#D55E00").count() > 1, "dashed: {svg}");
        let beyond = |x: &str| x.split('"').next().unwrap().parse::<u32>().is_ok_and(|x| x > WIDTH);
        assert!(!svg.split(" x=\"").chain(svg.split(" x1=\"")).any(beyond), "{svg}");
    }
}
