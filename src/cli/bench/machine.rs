//! What there is to know about the machine.

/// Processor, cores and system.
pub fn description() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let processor = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| value_of(&text, "model name"));
    let processor = processor.unwrap_or_else(|| "processor of unknown name".into());
    format!("{processor}, {cores} cores, {} {}", std::env::consts::OS, std::env::consts::ARCH)
}

/// Memory that this program has now, in bytes; `None` where the system does not tell.
pub fn memory() -> Option<usize> {
    Some(memory_stats::memory_stats()?.physical_mem)
}

/// Most memory that this program has had at once, in bytes; `None` where the system does not tell.
pub fn peak_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes: u64 = value_of(&text, "VmHWM")?.trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// The value of the first `name : value` line.
fn value_of(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
