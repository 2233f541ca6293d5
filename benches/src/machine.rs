//! Which machine it was, and what ran on it.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// What a reader has to know before comparing numbers with another run's.
pub fn describe() -> Value {
    json!({
        "date": jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
        "processor": line_of("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "memory": line_of("/proc/meminfo", "MemTotal"),
        "kernel": read("/proc/sys/kernel/osrelease"),
        "mysimbdp": env!("CARGO_PKG_VERSION"),
        "mosquitto": first_line(mysimbdp_testbed::program("mosquitto"), "-h"),
        "load average": load(),
    })
}

/// How many processes were at work in the last minute, this one's included.
pub fn load() -> f64 {
    read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn line_of(path: &str, name: &str) -> String {
    let text = read(path);
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
    value.unwrap_or_default().trim().to_owned()
}

fn first_line(program: std::path::PathBuf, argument: &str) -> String {
    let output = Command::new(program).arg(argument).stdin(Stdio::null()).output();
    let printed = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&printed).lines().next().unwrap_or_default().to_owned()
}
