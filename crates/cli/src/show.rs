//! How tables, times and sizes are shown.

use std::time::{Duration, SystemTime};

/// A row of titles and others, with columns as wide as their widest cell and the last one as it is. What programs and snapshots
/// call themselves is shown without what a terminal might obey.
pub(crate) fn table<const COLUMNS: usize>(
    titles: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) -> String {
    let titles = std::iter::once(titles.map(str::to_owned));
    let rows: Vec<_> = titles.chain(rows).collect();
    let mut text = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            let widest = rows.iter().map(|row| row[column].chars().count()).max();
            let last = column + 1 == COLUMNS;
            let width = if last { 0 } else { widest.unwrap_or(0) + 2 };
            let cell = cell.replace(|c: char| c.is_control(), "?");
            text.push_str(&format!("{cell:width$}"));
        }
        text.push('\n');
    }
    text
}

/// How long ago it was, roughly.
pub(crate) fn ago(time: SystemTime) -> String {
    // The clock may have been set back since.
    format!("{} ago", rough(time.elapsed().unwrap_or_default()))
}

/// A duration in its largest unit.
fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86400),
    }
}

/// A short time.
pub(crate) fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

/// Bytes in a unit that people read.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |seconds, expect| assert_eq!(rough(Duration::from_secs(seconds)), expect);
        check(0, "0 s");
        check(59, "59 s");
        check(60, "1 min");
        check(7200, "2 h");
        check(200_000, "2 d");
        let later = SystemTime::now() + Duration::from_secs(1000);
        assert_eq!(ago(later), "0 s ago");
    }

    #[test]
    fn columns_line_up() {
        let rows = [["longer", "x\x1b[2J\n"].map(str::to_owned)];
        assert_eq!(table(["NAME", "C"], rows), "NAME    C\nlonger  x?[2J?\n");
    }

    #[test]
    fn sizes() {
        let check = |bytes, expect| assert_eq!(size(bytes), expect);
        check(0, "0.0 kB");
        check(4096, "4.1 kB");
        check(10_500_000, "10.5 MB");
        check(3_000_000_000, "3.0 GB");
    }
}
