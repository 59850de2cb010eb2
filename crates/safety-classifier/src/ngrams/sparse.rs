//! Rows of few numbers among many zeros.

/// Rows of (column, value), columns ascending.
#[derive(Clone, Debug, Default)]
pub struct Sparse {
    /// Where each row begins in `entries`; one more than rows.
    pub starts: Vec<usize>,
    /// Column and value.
    pub entries: Vec<(u32, f32)>,
}

impl Sparse {
    /// Puts rows together.
    pub fn new(rows: Vec<Vec<(u32, f32)>>) -> Self {
        let mut starts = vec![0];
        let mut entries = Vec::with_capacity(rows.iter().map(Vec::len).sum());
        for row in rows {
            entries.extend(row);
            starts.push(entries.len());
        }
        Self { starts, entries }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// The entries of row `i`.
    pub fn row(&self, i: usize) -> &[(u32, f32)] {
        &self.entries[self.starts[i]..self.starts[i + 1]]
    }

    /// The entries of every row.
    pub fn each(&self) -> Vec<&[(u32, f32)]> {
        (0..self.rows()).map(|i| self.row(i)).collect()
    }

    /// Rows become columns.
    pub fn transposed(&self, columns: usize) -> Self {
        let mut starts = vec![0; columns + 1];
        for &(column, _) in &self.entries {
            starts[column as usize + 1] += 1;
        }
        for column in 0..columns {
            starts[column + 1] += starts[column];
        }
        let mut next = starts.clone();
        let mut entries = vec![(0, 0.0); self.entries.len()];
        for row in 0..self.rows() {
            for &(column, value) in self.row(row) {
                entries[next[column as usize]] = (row as u32, value);
                next[column as usize] += 1;
            }
        }
        Self { starts, entries }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposing_twice_gives_the_same() {
        let rows = vec![vec![(0, 1.0), (2, 2.0)], vec![], vec![(2, 3.0)]];
        let sparse = Sparse::new(rows);
        let back = sparse.transposed(3).transposed(3);
        assert_eq!((back.starts, back.entries), (sparse.starts, sparse.entries));
    }
}
