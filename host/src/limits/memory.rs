//! The memory that the machine has, or the container of the process.

use std::fs;
use std::path::Path;

/// The memory that the process may use, in bytes: that of the machine, or less if the process is in a
/// control group with a limit. If it is unknown, the value is the largest possible.
pub(super) fn machine_bytes() -> usize {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.as_deref().and_then(total_bytes);
    let group = fs::read_to_string("/proc/self/cgroup").ok();
    let group = group.as_deref().and_then(group_path);
    let group = group.and_then(|path| limit_bytes(Path::new("/sys/fs/cgroup"), path));
    machine.into_iter().chain(group).min().unwrap_or(usize::MAX)
}

/// The size of the memory in the text of `/proc/meminfo`.
fn total_bytes(meminfo: &str) -> Option<usize> {
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: usize = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// The path of the process's control group (version 2) in the text of `/proc/self/cgroup`.
fn group_path(cgroup: &str) -> Option<&str> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(path.trim_start_matches('/'))
}

/// The lowest memory limit of a control group and the groups that contain it.
fn limit_bytes(root: &Path, group: &str) -> Option<usize> {
    let group = root.join(group);
    let groups = group.ancestors().take_while(|path| path.starts_with(root));
    let limits = groups.filter_map(|path| fs::read_to_string(path.join("memory.max")).ok());
    limits.filter_map(|limit| limit.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_of_the_groups_counts() {
        let root = tempfile::tempdir().expect("a folder");
        let inner = root.path().join("a/b");
        fs::create_dir_all(&inner).expect("folders");
        let group = group_path("1:name=x:/c\n0::/a/b\n").expect("a group");
        assert_eq!(limit_bytes(root.path(), group), None);
        fs::write(inner.join("memory.max"), "max\n").expect("a file");
        assert_eq!(limit_bytes(root.path(), group), None);
        fs::write(root.path().join("a/memory.max"), "1048576\n").expect("a file");
        assert_eq!(limit_bytes(root.path(), group), Some(1 << 20));
        fs::write(inner.join("memory.max"), "4096\n").expect("a file");
        assert_eq!(limit_bytes(root.path(), group), Some(4096));
    }

    #[test]
    fn the_memory_of_the_machine_is_read() {
        let text = "MemFree:  1 kB\nMemTotal:       16 kB\n";
        assert_eq!(total_bytes(text), Some(16 << 10));
        assert!(machine_bytes() > 1 << 20);
    }
}
