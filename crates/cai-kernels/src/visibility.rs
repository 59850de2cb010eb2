//! Which keys a query may look at, without a matrix of booleans.

use std::sync::{Arc, OnceLock};

use burn::tensor::{Bool, Device, Tensor, TensorData};

/// A text, or a part of one, inside a row.
///
/// Without a parent it is a text of its own: positions begin at 0, and it sees nothing else. With
/// one it continues the parent's text, as each of two completions of one prompt does: positions go
/// on after the parent's last, and it sees the parent but no other segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its first slot in the row.
    pub start: usize,
    /// Tokens.
    pub len: usize,
    /// Number of the row's segment that it continues, which itself continues none.
    pub parent: Option<usize>,
}

/// The keys that one query sees: two ranges of slots, `[start, end)` each, the first behind which
/// the second begins. Either may be empty, not both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// In the segment that the query's own segment continues, such as a shared prompt.
    pub prefix: [usize; 2],
    /// In the query's own segment, up to the query itself.
    pub own: [usize; 2],
}

impl Seen {
    /// Whether slot `key` is among them.
    pub fn contains(&self, key: usize) -> bool {
        let within = |[start, end]: [usize; 2]| (start..end).contains(&key);
        within(self.prefix) || within(self.own)
    }
}

/// The visible keys of every query of a batch: causal, with or without a sliding window, inside
/// segments, behind pads.
#[derive(Clone, Debug)]
pub struct Visibility {
    rows: usize,
    queries: usize,
    keys: usize,
    /// `[rows, queries]`.
    seen: Arc<Vec<Seen>>,
    mask: Arc<OnceLock<Tensor<4, Bool>>>,
}

impl Visibility {
    /// Every row the same `len` tokens, each seeing those before it and itself, the last `window`
    /// of them if there is one.
    pub fn causal(len: usize, window: Option<usize>) -> Self {
        let seen = (0..len).map(|q| Seen { prefix: [0, 0], own: [first(q, window), q + 1] });
        Self::new([1, len, len], seen.collect())
    }

    /// `tokens` new tokens of each row, of which the first stands at position `starts[row]`; the key
    /// of each token, new or earlier, stands in the slot of its position.
    pub fn continued(starts: &[usize], tokens: usize, window: Option<usize>) -> Self {
        let seen = |&start: &usize| {
            let own = move |q| Seen { prefix: [0, 0], own: [first(q, window), q + 1] };
            (start..start + tokens).map(own)
        };
        let all = starts.iter().flat_map(seen).collect();
        let keys = starts.iter().max().map_or(0, |start| start + tokens);
        Self::new([starts.len(), tokens, keys], all)
    }

    /// Rows of `width` slots that hold segments. A token sees its own segment and the one that it
    /// continues; distances in the window are those of the text, not of slots. A slot outside of all
    /// segments, a pad, sees itself.
    pub fn segments(rows: &[Vec<Segment>], width: usize, window: Option<usize>) -> Self {
        let mut seen = Vec::with_capacity(rows.len() * width);
        for segments in rows {
            let row = seen.len();
            seen.extend((0..width).map(|q| Seen { prefix: [0, 0], own: [q, q + 1] }));
            for segment in segments {
                let parent = segment.parent.map(|p| (segments[p].start, segments[p].len));
                let (start, before) = parent.unwrap_or_default();
                for t in 0..segment.len {
                    // The first visible token of the text of parent and segment.
                    let from = first(before + t, window);
                    let q = segment.start + t;
                    seen[row + q] = Seen {
                        prefix: [start + from.min(before), start + before],
                        own: [segment.start + from.saturating_sub(before), q + 1],
                    };
                }
            }
        }
        Self::new([rows.len(), width, width], seen)
    }

    fn new([rows, queries, keys]: [usize; 3], seen: Vec<Seen>) -> Self {
        // Rows that are all the same are kept once.
        let same = seen.chunks(queries.max(1)).all(|row| row == &seen[..queries]);
        let rows = if same { rows.min(1) } else { rows };
        let seen = seen[..rows * queries].to_vec();
        Self { rows, queries, keys, seen: Arc::new(seen), mask: Arc::default() }
    }

    /// Rows (1 if every row of the batch is the same), queries of a row, keys of a row.
    pub fn dims(&self) -> [usize; 3] {
        [self.rows, self.queries, self.keys]
    }

    /// What each query of row `row` of the batch sees.
    pub fn row(&self, row: usize) -> &[Seen] {
        let row = if self.rows == 1 { 0 } else { row };
        &self.seen[row * self.queries..(row + 1) * self.queries]
    }

    /// The same as booleans, true where a query may *not* look: `[rows, 1, queries, keys]`. Made
    /// when it is first asked for.
    pub fn mask(&self, device: &Device) -> Tensor<4, Bool> {
        let make = || {
            let mut hidden = Vec::with_capacity(self.seen.len() * self.keys);
            for seen in self.seen.iter() {
                hidden.extend((0..self.keys).map(|key| !seen.contains(key)));
            }
            let data = TensorData::new(hidden, [self.rows, 1, self.queries, self.keys]);
            Tensor::from_bool(data, device)
        };
        self.mask.get_or_init(make).clone()
    }
}

/// The first position that the token at `position` sees.
fn first(position: usize, window: Option<usize>) -> usize {
    window.map_or(0, |window| (position + 1).saturating_sub(window))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the mask says what `visible(row, query, key)` says.
    fn check(visibility: &Visibility, visible: impl Fn(usize, usize, usize) -> bool) {
        let [rows, queries, keys] = visibility.dims();
        let mask = visibility.mask(&Device::flex());
        assert_eq!(mask.dims(), [rows, 1, queries, keys]);
        let mut hidden = mask.into_data().iter::<bool>().collect::<Vec<_>>().into_iter();
        for row in 0..rows {
            for (q, seen) in visibility.row(row).iter().enumerate() {
                for key in 0..keys {
                    assert_eq!(seen.contains(key), visible(row, q, key), "{row} {q} {key}");
                    assert_eq!(hidden.next(), Some(!visible(row, q, key)), "{row} {q} {key}");
                }
            }
        }
    }

    const WINDOWS: [Option<usize>; 4] = [None, Some(1), Some(3), Some(100)];

    #[test]
    fn causal_sees_what_came_before() {
        for window in WINDOWS {
            let visibility = Visibility::causal(7, window);
            check(&visibility, |_, q, k| k <= q && window.is_none_or(|w| q - k < w));
        }
    }

    #[test]
    fn new_tokens_see_those_before_them_in_their_row() {
        for window in WINDOWS {
            for (starts, tokens) in [([0, 0, 0], 6), ([6, 0, 3], 1), ([6, 0, 3], 3)] {
                let visibility = Visibility::continued(&starts, tokens, window);
                check(&visibility, |row, q, k| {
                    let q = starts[row] + q;
                    k <= q && window.is_none_or(|w| q - k < w)
                });
            }
        }
    }

    #[test]
    fn segments_see_themselves_and_what_they_continue() {
        // A prompt of 4 with two completions behind it, then an example of 2, then two pads.
        let segment = |start, len, parent| Segment { start, len, parent };
        let row = vec![
            segment(0, 4, None),
            segment(4, 3, Some(0)),
            segment(7, 2, Some(0)),
            segment(9, 2, None),
        ];
        let of = |slot: usize| row.iter().position(|s| (s.start..s.start + s.len).contains(&slot));
        let position = |slot: usize, s: &Segment| slot - s.start + s.parent.map_or(0, |_| 4);
        for window in WINDOWS {
            let visibility = Visibility::segments(&[row.clone(), Vec::new()], 13, window);
            check(&visibility, |r, q, k| {
                let (Some(own), Some(other), 0) = (of(q), of(k), r) else { return q == k };
                let (q, k) = (position(q, &row[own]), position(k, &row[other]));
                let connected = own == other || row[own].parent == Some(other);
                connected && k <= q && window.is_none_or(|w| q - k < w)
            });
        }
    }

    #[test]
    fn equal_rows_are_kept_once() {
        let whole = vec![Segment { start: 0, len: 5, parent: None }];
        let visibility = Visibility::segments(&[whole.clone(), whole], 5, None);
        assert_eq!(visibility.dims(), [1, 5, 5]);
        assert_eq!(visibility.row(1), Visibility::causal(5, None).row(0));
    }
}
