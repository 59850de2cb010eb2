//! The figures of every report, as SVG text: one look for all of them.
//!
//! Colours are those of Okabe and Ito (Color Universal Design, 2008), which people with any kind
//! of colour vision tell apart; points and lines differ in shape or label as well. Words from data
//! are escaped: a figure can stand in a page as it is.
//!
//! - [`bars()`]: shares in groups, with intervals; [`rows()`]: horizontal bars with their values;
//! - [`lines()`]: lines over anything; [`rounds()`]: shares from round to round, with intervals;
//! - [`plane()`]: points between 0 and 1 both ways, with intervals; [`curves()`]: lines there;
//! - [`boxes()`], [`radar()`], [`matrix()`]: distributions, shapes, confusion matrices.

mod axes;
mod bars;
mod boxes;
mod error;
mod lines;
mod look;
mod matrix;
mod plane;
mod radar;
mod rounds;
mod rows;
mod sheet;
mod values;

pub use bars::bars;
pub use boxes::{BoxPlot, boxes};
pub use error::{Error, Result};
pub use lines::{Line, lines};
pub use look::Look;
pub use matrix::matrix;
pub use plane::{Point, curves, plane};
pub use radar::radar;
pub use rounds::rounds;
pub use rows::rows;
pub use values::{Series, Span};
