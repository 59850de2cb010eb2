//! Token sequences of unequal length as one tensor.

use burn::tensor::{Device, Int, Tensor, TensorData};

pub use cai_kernels::Segment;

use crate::{Error, Result};

/// Which side of a row the pads stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Text first: training and scoring.
    Right,
    /// Text last: generation.
    Left,
}

/// A padded batch of token ids.
#[derive(Clone, Debug)]
pub struct TokenBatch {
    /// `[batch, width]`.
    pub ids: Tensor<2, Int>,
    /// Real tokens of each row.
    pub lengths: Vec<usize>,
    /// Where the pads stand.
    pub side: Side,
    /// What each row holds; one segment unless it was packed.
    pub segments: Vec<Vec<Segment>>,
}

impl TokenBatch {
    /// Pads behind the text, to the longest row.
    pub fn right(rows: &[&[u32]], pad: u32, device: &Device) -> Self {
        Self::new(rows, pad, Side::Right, device)
    }

    /// Pads before the text, to the longest row.
    pub fn left(rows: &[&[u32]], pad: u32, device: &Device) -> Self {
        Self::new(rows, pad, Side::Left, device)
    }

    /// Rows of several segments each, pads behind them.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] for segments that overlap, do not fill their row, or continue one that is
    /// not before them or continues another.
    pub fn packed(rows: &[(&[u32], Vec<Segment>)], pad: u32, device: &Device) -> Result<Self> {
        for (row, (ids, segments)) in rows.iter().enumerate() {
            check(ids.len(), segments)
                .map_err(|reason| Error::Input(format!("row {row} of a packed batch: {reason}")))?;
        }
        let ids: Vec<&[u32]> = rows.iter().map(|(ids, _)| *ids).collect();
        let segments = rows.iter().map(|(_, segments)| segments.clone()).collect();
        Ok(Self { segments, ..Self::right(&ids, pad, device) })
    }

    fn new(rows: &[&[u32]], pad: u32, side: Side, device: &Device) -> Self {
        let width = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let mut ids = Vec::with_capacity(rows.len() * width);
        let mut segments = Vec::with_capacity(rows.len());
        for row in rows {
            let empty = width - row.len();
            let pads = std::iter::repeat_n(pad as i64, empty);
            let text = row.iter().map(|&id| id as i64);
            match side {
                Side::Right => ids.extend(text.chain(pads)),
                Side::Left => ids.extend(pads.chain(text)),
            }
            let start = if side == Side::Left { empty } else { 0 };
            segments.push(vec![Segment { start, len: row.len(), parent: None }]);
        }
        let ids = Tensor::from_data(TensorData::new(ids, [rows.len(), width]), device);
        Self { ids, lengths: rows.iter().map(|row| row.len()).collect(), side, segments }
    }

    /// Tokens of the longest row.
    pub fn width(&self) -> usize {
        self.ids.dims()[1]
    }

    /// Position of each slot's token in its text, row by row. A pad behind a text counts on, one
    /// before it is 0, so that full and padded rows of a batch have the same positions.
    pub fn positions(&self) -> Vec<Vec<usize>> {
        let row = |segments: &Vec<Segment>| {
            let mut positions = vec![0; self.width()];
            for segment in segments {
                let before = segment.parent.map_or(0, |parent| segments[parent].len);
                for (i, position) in positions[segment.start..].iter_mut().enumerate() {
                    *position = before + i;
                }
            }
            positions
        };
        self.segments.iter().map(row).collect()
    }
}

/// Whether the segments fill a row of `tokens` one behind the other; if not, why.
fn check(tokens: usize, segments: &[Segment]) -> std::result::Result<(), String> {
    let mut end = 0;
    for (i, segment) in segments.iter().enumerate() {
        if segment.start != end {
            let start = segment.start;
            return Err(format!("segment {i} begins at {start}, the one before it ends at {end}"));
        }
        end += segment.len;
        if let Some(parent) = segment.parent
            && segments[..i].get(parent).is_none_or(|parent| parent.parent.is_some())
        {
            return Err(format!(
                "segment {i} continues {parent}; that must be one before it that continues none"
            ));
        }
    }
    match end == tokens {
        true => Ok(()),
        false => Err(format!("its segments have {end} tokens, the row has {tokens}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(ids: &[u32], segments: &[(usize, usize, Option<usize>)]) -> Result<TokenBatch> {
        let segment = |&(start, len, parent)| Segment { start, len, parent };
        let segments = segments.iter().map(segment).collect();
        TokenBatch::packed(
            &[(ids, segments), (&[1; 8], vec![segment(&(0, 8, None))])],
            0,
            &Device::flex(),
        )
    }

    #[test]
    fn positions_begin_anew_or_go_on() {
        let batch =
            packed(&[1; 7], &[(0, 2, None), (2, 2, Some(0)), (4, 1, Some(0)), (5, 2, None)])
                .unwrap();
        let positions = batch.positions();
        assert_eq!(positions[0][..7], [0, 1, 2, 3, 2, 0, 1]);
        assert_eq!(positions[1], [0, 1, 2, 3, 4, 5, 6, 7]);

        let left = TokenBatch::left(&[&[1, 2], &[1, 2, 3]], 0, &Device::flex());
        assert_eq!(left.positions(), [[0, 0, 1], [0, 1, 2]]);
        let right = TokenBatch::right(&[&[1, 2], &[1, 2, 3]], 0, &Device::flex());
        assert_eq!(right.positions(), [[0, 1, 2], [0, 1, 2]]);
    }

    #[test]
    fn segments_that_make_no_row_are_refused() {
        for (segments, reason) in [
            (vec![(0, 2, None), (3, 2, None)], "begins at 3"),
            (vec![(0, 2, None), (2, 2, None)], "have 4 tokens, the row has 5"),
            (vec![(0, 2, Some(0)), (2, 3, None)], "segment 0 continues 0"),
            (vec![(0, 2, None), (2, 2, Some(0)), (4, 1, Some(1))], "segment 2 continues 1"),
        ] {
            let error = packed(&[1; 5], &segments).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
