//! A radar: several shares of each model on spokes around a centre.

use std::f64::consts::TAU;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use crate::error::Result;
use crate::look::Look;
use crate::sheet::{Area, Drawn, FAINT, TEXT_SIZE, WIDTH, number, sheet, style, text};
use crate::values::Series;

/// Each model's values, from 0 in the centre to 1 at the rim, on a spoke for each label. A model without
/// a value for each is left out: its outline would have a hole.
///
/// # Errors
/// [`crate::Error::Drawing`] when the drawing library fails.
pub fn radar(title: &str, spokes: &[&str], series: &[Series]) -> Result<String> {
    let whole: Vec<(&Look, Vec<f64>)> = series
        .iter()
        .filter_map(|Series { look, values }| {
            let values: Option<Vec<f64>> = values.iter().map(|v| v.map(|v| v.value)).collect();
            Some((look, values?))
        })
        .collect();
    let looks: Vec<Look> = whole.iter().map(|(look, _)| (*look).clone()).collect();
    sheet(title, (WIDTH, 460), &looks, |area| {
        let (across, down) = area.get_pixel_range();
        let centre = ((across.start + across.end) / 2, (down.start + down.end) / 2 + 6);
        let radius = f64::from(down.end - down.start) / 2.0 - 40.0;
        let place = |spoke: usize, value: f64| {
            let angle = TAU * spoke as f64 / spokes.len() as f64;
            let reach = radius * value;
            let (dx, dy) = (reach * angle.sin(), -reach * angle.cos());
            (centre.0 + dx.round() as i32, centre.1 + dy.round() as i32)
        };
        let screen = area.use_screen_coord();
        let outline = |values: &dyn Fn(usize) -> f64| -> Vec<(i32, i32)> {
            (0..=spokes.len()).map(|i| i % spokes.len()).map(|i| place(i, values(i))).collect()
        };
        for ring in [0.25, 0.5, 0.75, 1.0] {
            screen.draw(&PathElement::new(outline(&|_| ring), FAINT))?;
        }
        for (i, label) in spokes.iter().enumerate() {
            screen.draw(&PathElement::new(vec![centre, place(i, 1.0)], FAINT))?;
            spoke_label(area, label, centre, place(i, 1.06))?;
        }
        for (look, values) in &whole {
            screen.draw(&PathElement::new(outline(&|i| values[i]), look.color.stroke_width(2)))?;
            for (i, value) in values.iter().enumerate() {
                look.marker(area, place(i, *value))?;
            }
        }
        for ring in [0.25, 0.5, 0.75, 1.0] {
            let (x, y) = place(0, ring);
            number(area, &ring.to_string(), (x - 11, y), TEXT_SIZE - 4, HPos::Right)?;
        }
        Ok(())
    })
}

/// A label outside the rim: its near end at `at`.
fn spoke_label(area: &Area, label: &str, centre: (i32, i32), at: (i32, i32)) -> Drawn {
    let side = match at.0 - centre.0 {
        -3..=3 => HPos::Center,
        ..-3 => HPos::Right,
        _ => HPos::Left,
    };
    let level = match at.1 - centre.1 {
        -3..=3 => VPos::Center,
        ..-3 => VPos::Bottom,
        _ => VPos::Top,
    };
    text(area, label, at, style(TEXT_SIZE, side, level))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::Span;

    #[test]
    fn a_model_without_all_values_is_left_out() {
        let series = |name: &str, values: [Option<f64>; 3]| Series {
            look: Look::new(name, 0),
            values: values.map(|v| v.map(|value| Span { value, low: None, high: None })).into(),
        };
        let models =
            [series("whole", [Some(0.2), Some(0.9), Some(0.4)]), series("part", [None; 3])];
        let svg = radar("Shape", &["true", "helpful", "<fair>"], &models).unwrap();
        assert!(svg.contains("whole") && !svg.contains("part") && svg.contains("&lt;fair&gt;"));
    }
}
