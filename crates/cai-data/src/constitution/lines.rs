//! Where the items of a YAML list stand, for errors that serde does not see.

/// The line (from 1) of `field` in item `item` of the block list under the top-level key `list`; the
/// item's first line if the field is not written there. `None` where the list is not in block form.
pub(super) fn of_item(text: &str, list: &str, item: usize, field: &str) -> Option<usize> {
    let lines: Vec<&str> = text.lines().collect();
    let head = lines.iter().position(|line| line.trim_end() == format!("{list}:"))?;
    let is_item = |line: &str| line.trim_start().starts_with("- ") || line.trim() == "-";
    let indent = |line: &str| line.len() - line.trim_start().len();
    let first = head + 1 + lines[head + 1..].iter().position(|line| is_item(line))?;
    let depth = indent(lines[first]);
    let mut starts =
        (first..lines.len()).filter(|&i| is_item(lines[i]) && indent(lines[i]) == depth);
    let start = starts.nth(item)?;
    let end = starts.next().unwrap_or(lines.len());
    let names_field = |line: &str| {
        let line = line.trim_start().trim_start_matches("- ").trim_start();
        line.strip_prefix(field).is_some_and(|rest| rest.starts_with(':'))
    };
    let at = (start..end).find(|&i| names_field(lines[i])).unwrap_or(start);
    Some(at + 1)
}

/// The first line (from 1) that contains `words`.
pub(super) fn containing(text: &str, words: &str) -> Option<usize> {
    text.lines().position(|line| line.contains(words)).map(|at| at + 1)
}

/// `place`, with the line if there is one.
pub(super) fn at(place: &str, line: Option<usize>) -> String {
    line.map_or(place.to_owned(), |line| format!("{place}:{line}"))
}
