//! `--stats`: what a machine did, on stderr when the program has ended.

use cormus_machine::Stats;
use std::io::Write;

/// Hypercalls shown by name; the rest are few.
const NAMES_MAX: usize = 8;

/// Prints the counts, one a line.
pub(crate) fn print(stats: &Stats) -> std::io::Result<()> {
    let mut out = std::io::stderr().lock();
    out.write_all(render(stats).as_bytes())
}

fn render(stats: &Stats) -> String {
    let hypercalls: u64 = stats.hypercalls.iter().map(|(_, count)| count).sum();
    let named = stats.hypercalls.iter().take(NAMES_MAX);
    let names: Vec<String> = named
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    format!(
        "system calls answered inside  {}\n\
         hypercalls                    {hypercalls} ({})\n\
         exits                         {}\n\
         exceptions, refused accesses  {}, {}\n\
         kicks                         {}\n\
         windows, memory chunks        {}, {}\n\
         memory at most                {:.1} MB\n",
        stats.system_calls,
        names.join(", "),
        stats.exits,
        stats.exceptions,
        stats.memory_faults,
        stats.kicks,
        stats.windows,
        stats.chunks,
        stats.memory_bytes_max as f64 / 1e6,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hypercalls_are_summed_and_named() {
        let stats = Stats {
            hypercalls: vec![("Map", 3), ("Wait", 2)],
            ..Stats::default()
        };
        assert!(render(&stats).contains("5 (Map 3, Wait 2)"));
    }
}
