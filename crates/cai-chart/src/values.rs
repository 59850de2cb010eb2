//! What is drawn: values with their intervals.

use crate::look::Look;

/// A value and its interval, if it has one.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Span {
    /// The value.
    pub value: f64,
    /// Lower end of the interval.
    pub low: Option<f64>,
    /// Upper end of the interval.
    pub high: Option<f64>,
}

impl Span {
    /// Both ends of the interval.
    pub(crate) fn interval(&self) -> Option<(f64, f64)> {
        self.low.zip(self.high)
    }
}

/// The values of one model, or of one measure, place by place; absent ones leave a gap.
pub struct Series {
    /// How they look.
    pub look: Look,
    /// The values with their intervals.
    pub values: Vec<Option<Span>>,
}
