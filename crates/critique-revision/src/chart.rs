//! The figures of the reports, as SVG: lines with intervals, and horizontal bars.
//!
//! Colours are those of Okabe and Ito (Color Universal Design, 2008).

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::stats::Mean;
use crate::{Error, Result};

const WIDTH: u32 = 900;
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const FAINT: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);
const PALETTE: [RGBColor; 4] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
];
const FONT: &str = "sans-serif";
const TEXT_SIZE: i32 = 16;
/// Height of a horizontal bar with its gap, in pixels.
const ROW: u32 = 26;
/// Mean width of a letter, in pixels.
const LETTER: u32 = 9;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A line: its name and its value at 0, 1, 2, ….
pub(crate) type Series<'a> = (&'a str, Vec<Option<Mean>>);

/// Lines from 0 to 1 over the rounds, each with its intervals.
pub(crate) fn rounds(title: &str, series: &[Series]) -> Result<String> {
    let last = series.iter().map(|(_, values)| values.len()).max().unwrap_or(1).max(2) - 1;
    figure(title, 400, |area| {
        let mut x = 20;
        for (i, (name, _)) in series.iter().enumerate() {
            area.draw(&Rectangle::new([(x, 10), (x + 12, 22)], PALETTE[i % 4].filled()))?;
            text(area, name, (x + 18, 8), HPos::Left)?;
            x += 18 + (LETTER * name.chars().count() as u32) as i32 + 24;
        }
        let (_, below) = area.split_vertically(34);
        let mut axes = ChartBuilder::on(&below)
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(50)
            .build_cartesian_2d(-0.2..last as f64 + 0.2, 0.0..1.02)?;
        let font = (FONT, TEXT_SIZE).into_font().color(&INK);
        axes.configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(FAINT)
            .axis_style(INK)
            .label_style(font.clone())
            .axis_desc_style(font)
            .x_labels(last + 1)
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| format!("{y:.1}"))
            .x_desc("round")
            .draw()?;
        for (i, (_, values)) in series.iter().enumerate() {
            let color = PALETTE[i % 4];
            // Lines side by side, so that no interval hides another.
            let place = |x: usize| x as f64 + 0.03 * (i as f64 - 1.5);
            let points: Vec<(f64, Mean)> = values
                .iter()
                .enumerate()
                .filter_map(|(x, value)| Some((place(x), (*value)?)))
                .collect();
            let line = points.iter().map(|(x, mean)| (*x, mean.mean));
            axes.draw_series(LineSeries::new(line.clone(), color.stroke_width(2)))?;
            axes.draw_series(line.map(|at| Circle::new(at, 4, color.filled())))?;
            for (x, mean) in &points {
                if let (Some(low), Some(high)) = (mean.low, mean.high) {
                    let ends = vec![(*x, low.max(0.0)), (*x, high.min(1.02))];
                    axes.draw_series([PathElement::new(ends, color.stroke_width(1))])?;
                }
            }
        }
        Ok(())
    })
}

/// Horizontal bars with their labels and values, from 0 or across it.
pub(crate) fn bars(title: &str, rows: &[(String, f64)], show: fn(f64) -> String) -> Result<String> {
    let height = 60 + ROW * rows.len().max(1) as u32;
    let label_width =
        rows.iter().map(|(label, _)| LETTER * label.chars().count() as u32).max().unwrap_or(0) + 20;
    let low = rows.iter().map(|(_, value)| *value).fold(0.0, f64::min);
    let high = rows.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let span = if high > low { high - low } else { 1.0 };
    figure(title, height, |area| {
        let left = label_width as i32;
        let room = f64::from(WIDTH as i32 - left - 110);
        let x = |value: f64| left + 10 + (room * (value - low) / span).round() as i32;
        for (i, (label, value)) in rows.iter().enumerate() {
            let y = (ROW * i as u32) as i32 + 6;
            text(area, label, (left, y), HPos::Right)?;
            let (from, to) = (x(value.min(0.0)), x(value.max(0.0)));
            area.draw(&Rectangle::new([(from, y), (to, y + 18)], PALETTE[0].filled()))?;
            text(area, &show(*value), (to + 6, y), HPos::Left)?;
        }
        let end = (ROW * rows.len() as u32) as i32 + 6;
        area.draw(&PathElement::new(vec![(x(0.0), 0), (x(0.0), end)], INK))?;
        Ok(())
    })
}

/// A white sheet with a title; `draw` gets the rest of it.
fn figure(title: &str, height: u32, draw: impl FnOnce(&Area) -> Drawn) -> Result<String> {
    let mut svg = String::new();
    let drawn = (|| -> Drawn {
        let sheet = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        sheet.fill(&WHITE)?;
        let style = (FONT, 22).into_font().color(&INK);
        sheet.draw(&Text::new(title.to_owned(), (20, 10), style))?;
        let (_, below) = sheet.split_vertically(44);
        draw(&below)?;
        sheet.present()?;
        Ok(())
    })();
    drawn.map_err(|error| Error::Report { what: title.to_owned(), reason: error.to_string() })?;
    Ok(svg)
}

fn text(area: &Area, words: &str, at: (i32, i32), side: HPos) -> Drawn {
    let style = (FONT, TEXT_SIZE).into_font().color(&INK).pos(Pos::new(side, VPos::Top));
    area.draw(&Text::new(words.to_owned(), at, style))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_hold_their_words_and_values() {
        let mean = |mean| Some(Mean { mean, low: Some(mean - 0.1), high: Some(mean + 0.1), n: 9 });
        let lines = [("harmless", vec![mean(0.2), mean(0.7), None]), ("helpful", vec![mean(0.5)])];
        let svg = rounds("Scores", &lines).unwrap();
        for words in ["Scores", "harmless", "helpful", "round"] {
            assert!(svg.contains(words), "{words}");
        }
        assert_eq!(svg.matches("<circle").count(), 3);
        let rows = [("danger".to_owned(), 3.0), ("<b>".to_owned(), -1.0)];
        let svg = bars("Bias", &rows, |value| format!("{value:+.1}")).unwrap();
        assert!(svg.contains("+3.0") && svg.contains("-1.0") && !svg.contains("<b>"));
        assert!(bars("None", &[], |value| value.to_string()).unwrap().contains("</svg>"));
    }
}
