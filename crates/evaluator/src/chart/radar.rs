//! A radar: several shares of each model on spokes around a centre.

use std::f64::consts::TAU;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Area, Bars, Drawn, FAINT, FONT, INK, Look, TEXT_SIZE, figure, marker, text};
use crate::error::Result;

/// Each model's values, from 0 in the centre to 1 at the rim, on a spoke for each label. A model without
/// a value for each is left out: its outline would have a hole.
///
/// # Errors
/// [`crate::Error::Figure`] when the drawing library fails.
pub fn radar(title: &str, spokes: &[&str], series: &[Bars]) -> Result<String> {
    let whole: Vec<(&Look, Vec<f64>)> = series
        .iter()
        .filter_map(|bars| {
            let values: Option<Vec<f64>> = bars.values.iter().map(|v| v.map(|v| v.mean)).collect();
            Some((&bars.look, values?))
        })
        .collect();
    let looks: Vec<Look> = whole.iter().map(|(look, _)| (*look).clone()).collect();
    figure(title, 560, &looks, |area| {
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
                marker(area, place(i, *value), look)?;
            }
        }
        for ring in [0.25, 0.5, 0.75, 1.0] {
            // On white, so that no line runs through the number.
            let (x, y) = place(0, ring);
            screen.draw(&Rectangle::new([(x - 34, y - 8), (x - 10, y + 8)], WHITE.filled()))?;
            text(area, &format!("{ring}"), (x - 11, y - 7), TEXT_SIZE - 4, HPos::Right)?;
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
    let style = (FONT, TEXT_SIZE).into_font().color(&INK).pos(Pos::new(side, level));
    area.use_screen_coord().draw(&Text::new(label.to_owned(), at, style))?;
    Ok(())
}
