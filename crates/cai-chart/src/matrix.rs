//! A confusion matrix.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use crate::error::Result;
use crate::look::PALETTE;
use crate::sheet::{FAINT, INK, LETTER, SIDES, TEXT_SIZE, sheet, style, text};

/// Side of a cell, in pixels.
const CELL: i32 = 64;
/// Room for the word beside a side of the matrix.
const WORD: i32 = 26;

/// True classes down, predicted ones across; each cell has its count and its share of the row, which
/// also shades it.
///
/// # Errors
/// [`crate::Error::Drawing`] when the drawing library fails.
pub fn matrix(title: &str, labels: &[String], counts: &[Vec<usize>]) -> Result<String> {
    let longest = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0) as i32;
    let (names, side) = (LETTER * longest + 12, CELL * labels.len() as i32);
    let size = WORD + names + side;
    sheet(title, ((size + SIDES) as u32, size as u32), &[], |area| {
        let (across, down) = area.get_pixel_range();
        let (left, top) = (across.start + WORD + names, down.start + WORD + names);
        let centred = |size| style(size, HPos::Center, VPos::Center);
        let upwards = |style: TextStyle<'static>| style.transform(FontTransform::Rotate270);
        text(area, "predicted", (left + side / 2, down.start + 8), centred(TEXT_SIZE))?;
        text(area, "true", (across.start + 8, top + side / 2), upwards(centred(TEXT_SIZE)))?;
        for (i, label) in labels.iter().enumerate() {
            let middle = CELL * i as i32 + CELL / 2;
            let row = style(TEXT_SIZE, HPos::Right, VPos::Center);
            text(area, label, (left - 8, top + middle), row)?;
            // Upright, since names are wider than cells.
            let column = upwards(style(TEXT_SIZE, HPos::Left, VPos::Center));
            text(area, label, (left + middle, top - 8), column)?;
        }
        let screen = area.use_screen_coord();
        for (i, row) in counts.iter().enumerate() {
            let total = row.iter().sum::<usize>().max(1);
            for (j, count) in row.iter().enumerate() {
                let share = *count as f64 / total as f64;
                let (x, y) = (left + CELL * j as i32, top + CELL * i as i32);
                let cell = [(x, y), (x + CELL, y + CELL)];
                screen.draw(&Rectangle::new(cell, PALETTE[0].mix(share).filled()))?;
                screen.draw(&Rectangle::new(cell, FAINT))?;
                let ink = if share > 0.6 { &WHITE } else { &INK };
                let middle = (x + CELL / 2, y + CELL / 2);
                let (above, below) = ((middle.0, middle.1 - 9), (middle.0, middle.1 + 11));
                text(area, &count.to_string(), above, centred(TEXT_SIZE).color(ink))?;
                let percent = format!("{:.0} %", share * 100.0);
                text(area, &percent, below, centred(TEXT_SIZE - 4).color(ink))?;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_hold_counts_and_shares_of_their_row() {
        let labels = ["safe".to_owned(), "<toxic>".to_owned()];
        let svg = matrix("Confusion", &labels, &[vec![30, 10], vec![0, 0]]).unwrap();
        for words in ["30", "75 %", "10", "25 %", "0 %", "predicted", "true"] {
            assert!(svg.contains(&format!(">\n{words}\n")), "{words} in {svg}");
        }
        assert_eq!(svg.matches("&lt;toxic&gt;").count(), 2, "one for the row, one for the column");
        assert!(!svg.contains("<toxic>"));
    }
}
