//! Axes with grid, ticks and labels.

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use crate::sheet::{Area, Drawn, FAINT, INK, TEXT_SIZE, style};

pub(crate) type Axes<'a> =
    ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Height of what stands below the plot: numbers and a label, or the names of groups.
pub(crate) const BELOW: u32 = 44;
const BELOW_BARE: u32 = 24;
/// Width of what stands left and right of it.
const LEFT: u32 = 72;
const RIGHT: u32 = 8;
pub(crate) const BESIDE: u32 = LEFT + RIGHT;

/// One of two axes.
pub(crate) struct Axis<'a> {
    /// What it measures.
    pub label: &'a str,
    /// Its ends.
    pub range: (f64, f64),
    /// How many ticks it has, at most.
    pub ticks: usize,
}

impl<'a> Axis<'a> {
    pub fn new(label: &'a str, range: (f64, f64)) -> Self {
        Axis { label, range, ticks: 11 }
    }

    /// Without ticks: what stands along it is labelled otherwise.
    pub fn bare(range: (f64, f64)) -> Self {
        Axis { label: "", range, ticks: 0 }
    }
}

/// Draws both axes.
pub(crate) fn axes<'a>(area: &Area<'a>, x: Axis, y: Axis) -> Drawn<Axes<'a>> {
    let mut axes = ChartBuilder::on(area)
        .margin_right(RIGHT)
        .x_label_area_size(if x.ticks == 0 { BELOW_BARE } else { BELOW })
        .y_label_area_size(LEFT)
        .build_cartesian_2d(x.range.0..x.range.1, y.range.0..y.range.1)?;
    let font = style(TEXT_SIZE, HPos::Left, VPos::Top);
    let mut mesh = axes.configure_mesh();
    mesh.light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .axis_style(INK)
        .label_style(font.clone())
        .axis_desc_style(font)
        .x_label_formatter(&tick)
        .y_label_formatter(&tick)
        .x_labels(x.ticks)
        .y_labels(y.ticks)
        .y_desc(y.label);
    match x.ticks {
        0 => mesh.disable_x_mesh().draw()?,
        _ => mesh.x_desc(x.label).draw()?,
    }
    Ok(axes)
}

/// A number on an axis, with the digits that its size needs.
fn tick(value: &f64) -> String {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_on_an_axis_have_the_digits_that_they_need() {
        let shown = [0.0, 3e-5, 0.05, 0.25, 2.0, -0.5, 1200.04].map(|value| tick(&value));
        assert_eq!(shown, ["0", "3.0e-5", "0.050", "0.25", "2", "-0.50", "1200"]);
    }
}
