//! Which examples share a row.

use std::cmp::Reverse;
use std::collections::BTreeSet;

/// Rows of at most `max_length` tokens, filled best-fit decreasing as TRL's `bfd` does: the longest
/// example first, each into the fullest row that still holds it. Rows and the examples in them are
/// in the order of the examples. An example longer than `max_length` has a row of its own.
pub fn pack(lengths: &[usize], max_length: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&i| Reverse(lengths[i]));
    let mut rows: Vec<Vec<usize>> = Vec::new();
    // Room left in each row, least first; of equal ones the oldest row first.
    let mut room: BTreeSet<(usize, usize)> = BTreeSet::new();
    for example in order {
        let length = lengths[example];
        let fit = room.range((length, 0)..).next().copied();
        let (left, row) = match fit {
            Some((left, row)) => {
                room.remove(&(left, row));
                (left, row)
            }
            None => {
                rows.push(Vec::new());
                (max_length.max(length), rows.len() - 1)
            }
        };
        rows[row].push(example);
        room.insert((left - length, row));
    }
    rows.iter_mut().for_each(|row| row.sort_unstable());
    rows.sort_unstable();
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_in_one_row_that_holds_it() {
        let lengths: Vec<usize> = (0..200).map(|i| 1 + (i * 7919) % 97).collect();
        let rows = pack(&lengths, 100);
        let mut seen = rows.concat();
        seen.sort_unstable();
        assert_eq!(seen, (0..200).collect::<Vec<_>>());
        let tokens = |row: &Vec<usize>| row.iter().map(|&i| lengths[i]).sum::<usize>();
        assert!(rows.iter().all(|row| tokens(row) <= 100));
        let total: usize = lengths.iter().sum();
        assert!(rows.len() <= total / 100 + 3, "{} rows of {total} tokens", rows.len());
        assert_eq!(rows, pack(&lengths, 100));
    }

    #[test]
    fn the_fullest_row_is_taken() {
        assert_eq!(pack(&[5, 3, 6, 2, 4], 10), [vec![0, 1, 3], vec![2, 4]]);
        assert_eq!(pack(&[12, 3], 10), [vec![0], vec![1]]);
        assert!(pack(&[], 10).is_empty());
    }
}
