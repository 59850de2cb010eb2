//! Dates as Python's `strftime` writes them.

use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::ErrorKind;

/// Today's date in the directives that chat templates use; UTC.
pub(super) fn strftime_now(format: &str) -> std::result::Result<String, minijinja::Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    strftime(format, now.as_secs()).map_err(|directive| {
        let message = format!("strftime_now does not know the directive %{directive}");
        minijinja::Error::new(ErrorKind::InvalidOperation, message)
    })
}

/// `seconds` since 1970 as `format` says, or the directive that is not known.
fn strftime(format: &str, seconds: u64) -> std::result::Result<String, String> {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] =
        ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let month_name = MONTHS[month - 1];
    let day_name = DAYS[(days % 7) as usize];

    let mut text = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let directive = chars.next();
        let part = match directive {
            Some('Y') => year.to_string(),
            Some('y') => format!("{:02}", year % 100),
            Some('m') => format!("{month:02}"),
            Some('B') => month_name.to_owned(),
            Some('b') => month_name[..3].to_owned(),
            Some('d') => format!("{day:02}"),
            Some('A') => day_name.to_owned(),
            Some('a') => day_name[..3].to_owned(),
            Some('H') => format!("{:02}", second / 3600),
            Some('M') => format!("{:02}", second / 60 % 60),
            Some('S') => format!("{:02}", second % 60),
            Some('%') => "%".to_owned(),
            other => return Err(other.map(String::from).unwrap_or_default()),
        };
        text.push_str(&part);
    }
    Ok(text)
}

/// Year, month and day of a number of days since 1970-01-01.
fn civil(mut days: u64) -> (u64, usize, u64) {
    let leap =
        |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    (year, month + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let format = "%A %a %d %B %b %m %Y %y %H:%M:%S %%";
        let date = strftime(format, 1_709_210_096).unwrap();
        assert_eq!(date, "Thursday Thu 29 February Feb 02 2024 24 12:34:56 %");
        assert_eq!(strftime("%d %b %Y", 0).unwrap(), "01 Jan 1970");
        assert_eq!(strftime("%Q", 0).unwrap_err(), "Q");
        assert!(strftime_now("%Y").unwrap().as_str() >= "2024");
    }
}
