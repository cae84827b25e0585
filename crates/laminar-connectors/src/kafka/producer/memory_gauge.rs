//! Is the machine short of memory? What the kernel says of it, looked up a few times a second at most.

use std::path::PathBuf;

use tokio::time::{Duration, Instant};

/// Short: less than one part in this many is left.
const PART: u64 = 20;
const FRESH: Duration = Duration::from_millis(100);

pub(crate) struct MemoryGauge {
    /// `/proc/meminfo`, or what a test puts in its place.
    path: PathBuf,
    looked: Option<Instant>,
    short: bool,
}

impl Default for MemoryGauge {
    fn default() -> Self {
        Self { path: "/proc/meminfo".into(), looked: None, short: false }
    }
}

impl MemoryGauge {
    /// Less than a twentieth of the memory is left. Where the kernel does not say, it is not.
    pub fn is_short(&mut self) -> bool {
        if self.looked.is_none_or(|looked| looked.elapsed() >= FRESH) {
            self.looked = Some(Instant::now());
            self.short = std::fs::read_to_string(&self.path).is_ok_and(|text| is_short(&text));
        }
        self.short
    }
}

fn is_short(meminfo: &str) -> bool {
    let kilobytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()
    };
    match (kilobytes("MemTotal"), kilobytes("MemAvailable")) {
        (Some(total), Some(left)) => left.saturating_mul(PART) < total,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_short_when_less_than_a_twentieth_is_left() {
        let meminfo = |left: u32| format!("MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  {left} kB\n");
        assert_eq!([51, 50, 49, 0].map(|left| is_short(&meminfo(left))), [false, false, true, true]);
        assert!(!is_short("MemTotal: many"), "what is not known is not short");
    }

    #[test]
    fn this_kernel_says_how_much_is_left() {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap();
        assert!(text.contains("MemAvailable:"));
    }
}
