//! The white sheet that every figure is drawn on: title, legend, and what is put on it by the pixel.

use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::error::{Error, Result};
use crate::look::Look;

/// Width of a figure that does not need another one, in pixels.
pub(crate) const WIDTH: u32 = 900;
pub(crate) const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
pub(crate) const FAINT: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);

const FONT: &str = "sans-serif";
const TITLE_SIZE: i32 = 24;
pub(crate) const TEXT_SIZE: i32 = 17;
/// Mean width of a letter of this size, in pixels: only used to leave room for words.
pub(crate) const LETTER: i32 = 8;
/// White around what is drawn; left and right a little more.
const MARGIN: i32 = 20;
pub(crate) const SIDES: i32 = 2 * MARGIN + 10;
/// Height of a line of the legend.
const LINE: i32 = 24;

pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(crate) type Drawn<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A white sheet with title and legend; `draw` gets the `height` pixels below them.
pub(crate) fn sheet(
    title: &str,
    (width, height): (u32, u32),
    looks: &[Look],
    draw: impl FnOnce(&Area) -> Drawn,
) -> Result<String> {
    let mut svg = String::new();
    let drawn = (|| {
        let (entries, below) = legend(looks, width as i32);
        let size = (width, below as u32 + height + MARGIN as u32);
        let sheet = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        sheet.fill(&WHITE)?;
        text(&sheet, title, (MARGIN, 12), style(TITLE_SIZE, HPos::Left, VPos::Top))?;
        for ((x, y), look, name) in entries {
            look.marker(&sheet, (x, y))?;
            text(&sheet, &name, (x + 14, y - 8), style(TEXT_SIZE, HPos::Left, VPos::Top))?;
        }
        draw(&sheet.margin(below, MARGIN, MARGIN, SIDES - MARGIN))?;
        sheet.present()?;
        Ok(())
    })();
    drawn.map_err(|reason: Box<dyn std::error::Error>| Error::Drawing {
        title: title.into(),
        reason: reason.to_string(),
    })?;
    Ok(svg)
}

/// An entry of the legend: the pixel of its marker, what it is for, and its name as far as there is room.
type Entry<'a> = ((i32, i32), &'a Look, String);

/// The legend below the title, in as many lines as it needs, and where it ends.
fn legend(looks: &[Look], width: i32) -> (Vec<Entry<'_>>, i32) {
    let left = MARGIN + 10;
    let (mut x, mut y) = (left, 58);
    let mut entries = Vec::new();
    for look in looks {
        let name = fitted(&look.name, width - MARGIN - left - 18);
        let wide = 18 + LETTER * name.chars().count() as i32;
        if x + wide > width - MARGIN && x > left {
            (x, y) = (left, y + LINE);
        }
        entries.push(((x, y), look, name));
        x += wide + 24;
    }
    (entries, if looks.is_empty() { 50 } else { y + 22 })
}

/// The words, cut short where they would be wider than `width` pixels.
pub(crate) fn fitted(words: &str, width: i32) -> String {
    let most = (width / LETTER).max(1) as usize;
    if words.chars().count() <= most {
        return words.to_owned();
    }
    words.chars().take(most - 1).chain(['…']).collect()
}

/// Words in ink whose left end, middle or right end, and top, middle or bottom, are at the pixel.
pub(crate) fn style(size: i32, side: HPos, level: VPos) -> TextStyle<'static> {
    (FONT, size).into_font().color(&INK).pos(Pos::new(side, level))
}

/// Words at a pixel.
pub(crate) fn text(area: &Area, words: &str, at: (i32, i32), style: TextStyle) -> Drawn {
    area.use_screen_coord().draw(&Text::new(words.to_owned(), at, style))?;
    Ok(())
}

/// A number left or right of a pixel, on white: no line runs through it.
pub(crate) fn number(area: &Area, words: &str, (x, y): (i32, i32), size: i32, side: HPos) -> Drawn {
    let width = LETTER * size / TEXT_SIZE * words.chars().count() as i32;
    let left = if matches!(side, HPos::Right) { x - width } else { x };
    let white = [(left - 1, y - size / 2), (left + width + 1, y + size / 2)];
    area.use_screen_coord().draw(&Rectangle::new(white, WHITE.filled()))?;
    text(area, words, (x, y - size * 7 / 16), style(size, side, VPos::Top))
}

/// A dashed line between two pixels.
pub(crate) fn dashed(area: &Area, ends: [(i32, i32); 2], line: ShapeStyle) -> Drawn {
    area.use_screen_coord().draw(&DashedPathElement::new(ends, 6, 4, line))?;
    Ok(())
}

/// A line between two pixels on one level or above each other, with a cap at each end.
pub(crate) fn whisker(area: &Area, [from, to]: [(i32, i32); 2], color: RGBColor) -> Drawn {
    let (dx, dy) = if from.0 == to.0 { (4, 0) } else { (0, 4) };
    let cap = |(x, y): (i32, i32)| vec![(x - dx, y - dy), (x + dx, y + dy)];
    let screen = area.use_screen_coord();
    for path in [vec![from, to], cap(from), cap(to)] {
        screen.draw(&PathElement::new(path, color))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_data_stay_text() {
        let looks = [Look::new("<b>&amp;\"'", 0), Look::grey("]]><script>")];
        let svg = sheet("<i>title</i>", (400, 100), &looks, |_| Ok(())).unwrap();
        assert!(svg.contains("&lt;b&gt;&amp;amp;") && svg.contains("&lt;script&gt;"), "{svg}");
        for tag in ["<b>", "<script", "<i>"] {
            assert!(!svg.contains(tag), "{tag}");
        }
    }

    #[test]
    fn a_legend_takes_the_lines_that_it_needs() {
        let looks: Vec<Look> = (0..4).map(|i| Look::new("a rather long name", i)).collect();
        let lines = |width| legend(&looks, width).1;
        assert_eq!(lines(900), lines(800));
        assert_eq!(lines(400) - lines(900), LINE);
        assert!(lines(900) > legend(&[], 900).1);
        for ((x, _), _, name) in legend(&[Look::new("long".repeat(90), 0)], 300).0 {
            assert!(x + 18 + LETTER * name.chars().count() as i32 <= 300 && name.ends_with('…'));
        }
    }

    #[test]
    fn an_error_names_the_figure() {
        let error = sheet("Bars", (400, 100), &[], |_| Err("no font".into())).unwrap_err();
        assert!(error.to_string().starts_with("figure \"Bars\" cannot be drawn: no font"));
    }
}
