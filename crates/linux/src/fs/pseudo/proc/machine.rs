//! The machine-wide files of `/proc`.

use super::{DIRECTORY, REGULAR, head, text};
use crate::fs::Inode;
use crate::fs::pseudo::node::{Directory, Text};
use crate::kernel::Kernel;
use crate::{frames, host, time};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;

type Entry = (&'static [u8], Arc<dyn Inode>);

/// Ticks of a second in `/proc/stat` and `/proc/PID/stat`.
pub(super) const TICKS_PER_S: u64 = 100;

/// The files.
pub(super) fn files(kernel: &'static Kernel) -> Vec<Entry> {
    let cpus = kernel.config.cpu_count;
    alloc::vec![
        (b"cpuinfo".as_slice(), text(10, move |_| cpuinfo(cpus))),
        (b"meminfo", text(11, move |_| meminfo(kernel))),
        (b"stat", text(12, move |_| stat(kernel))),
        (b"uptime", text(13, |_| uptime())),
        (b"loadavg", text(14, move |_| loadavg(kernel))),
        (
            b"version",
            text(15, |_| {
                b"Linux version 6.1.0-cormus (cormus) #1 SMP Cormus\n".to_vec()
            })
        ),
        (
            b"filesystems",
            text(16, |_| {
                b"nodev\tsysfs\nnodev\ttmpfs\nnodev\tproc\nnodev\tdevpts\nnodev\toverlay\n".to_vec()
            })
        ),
        (b"cmdline", text(17, |_| b"cormus\n".to_vec())),
        (
            b"devices",
            text(18, |_| {
                b"Character devices:\n  1 mem\n  5 /dev/tty\n136 pts\n\nBlock devices:\n".to_vec()
            })
        ),
        (
            b"swaps",
            text(19, |_| {
                b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_vec()
            })
        ),
        (
            b"vmstat",
            text(20, |_| b"nr_free_pages 0\npgfault 0\npgmajfault 0\n"
                .to_vec())
        ),
        (
            b"cgroups",
            text(21, |_| b"#subsys_name\thierarchy\tnum_cgroups\tenabled\n"
                .to_vec())
        ),
        (b"modules", text(22, |_| Vec::new())),
        (
            b"partitions",
            text(23, |_| b"major minor  #blocks  name\n\n".to_vec())
        ),
        (b"diskstats", text(24, |_| Vec::new())),
        (b"sys", sys(kernel)),
        (b"cormus", own(kernel)),
    ]
}

/// One value of /proc/sys: a line that can be read.
fn value(ino: u64, line: &'static str) -> Arc<dyn Inode> {
    text(ino, move |_| line.as_bytes().to_vec())
}

fn folder(ino: u64, entries: Vec<Entry>) -> Arc<dyn Inode> {
    Directory::node(head(ino, DIRECTORY), entries)
}

/// `/proc/cormus`: what only such machines have.
fn own(kernel: &'static Kernel) -> Arc<dyn Inode> {
    let variables = Text::node(head(26, REGULAR | 0o444), move |_| {
        let variables = kernel.variables.lock();
        let lines = variables.iter().flat_map(|line| [line.as_bytes(), b"\n"]);
        Ok(lines.flatten().copied().collect())
    });
    folder(25, alloc::vec![(b"env".as_slice(), variables)])
}

fn sys(kernel: &'static Kernel) -> Arc<dyn Inode> {
    let kernel_files = kernel_values(kernel);
    let [vm, fs_files, net] = plain_values();
    folder(
        100,
        alloc::vec![
            (b"kernel".as_slice(), folder(130, kernel_files)),
            (b"vm", folder(150, vm)),
            (b"fs", folder(170, fs_files)),
            (b"net", folder(190, net)),
        ],
    )
}

/// `/proc/sys/kernel`.
fn kernel_values(kernel: &'static Kernel) -> Vec<Entry> {
    let hostname = Text::node(head(101, REGULAR | 0o444), move |_| {
        let mut name = kernel.hostname.lock().clone();
        name.push(b'\n');
        Ok(name)
    });
    let random = alloc::vec![
        (
            b"boot_id".as_slice(),
            text(110, move |_| uuid_line(&kernel.individual.boot_id()))
        ),
        (
            b"uuid",
            text(111, |_| {
                let mut bytes = [0u8; 32];
                crate::random::fill(&mut bytes);
                uuid_line(&bytes)
            })
        ),
        (b"entropy_avail", value(112, "256\n")),
        (b"poolsize", value(113, "256\n")),
    ];
    alloc::vec![
        (b"hostname".as_slice(), hostname),
        (b"ostype", value(102, "Linux\n")),
        (b"osrelease", value(103, "6.1.0-cormus\n")),
        (b"version", value(104, "#1 SMP Cormus\n")),
        (b"pid_max", value(105, "32768\n")),
        (
            b"threads-max",
            text(106, move |_| {
                format!("{}\n", kernel.tasks.count_max()).into_bytes()
            })
        ),
        (b"cap_last_cap", value(107, "40\n")),
        (b"ngroups_max", value(108, "65536\n")),
        (b"random", folder(109, random)),
        (b"shmmax", value(114, "18446744073692774399\n")),
        (b"shmall", value(115, "18446744073692774399\n")),
        (b"shmmni", value(116, "4096\n")),
        (b"sem", value(117, "32000\t1024000000\t500\t32000\n")),
        (b"msgmax", value(118, "8192\n")),
        (b"msgmnb", value(119, "16384\n")),
        (b"msgmni", value(120, "32000\n")),
        (b"core_pattern", value(121, "core\n")),
        (b"randomize_va_space", value(122, "2\n")),
        (b"overflowuid", value(123, "65534\n")),
        (b"overflowgid", value(124, "65534\n")),
        (b"perf_event_paranoid", value(125, "4\n")),
        (
            b"yama",
            folder(
                126,
                alloc::vec![(b"ptrace_scope".as_slice(), value(127, "3\n"))]
            )
        ),
    ]
}

/// `/proc/sys/vm`, `fs` and `net`.
fn plain_values() -> [Vec<Entry>; 3] {
    let vm = alloc::vec![
        (b"overcommit_memory".as_slice(), value(140, "1\n")),
        (b"max_map_count", value(141, "65530\n")),
        (b"swappiness", value(142, "60\n")),
        (b"mmap_min_addr", value(143, "65536\n")),
        (b"nr_hugepages", value(144, "0\n")),
        (b"overcommit_ratio", value(145, "50\n")),
    ];
    let fs_files = alloc::vec![
        (b"file-max".as_slice(), value(160, "9223372036854775807\n")),
        (b"nr_open", value(161, "1048576\n")),
        (b"pipe-max-size", value(162, "1048576\n")),
        (b"aio-max-nr", value(164, "65536\n")),
        (
            b"inotify",
            folder(
                165,
                alloc::vec![
                    (b"max_user_watches".as_slice(), value(166, "65536\n")),
                    (b"max_user_instances", value(167, "128\n")),
                    (b"max_queued_events", value(168, "16384\n")),
                ]
            )
        ),
    ];
    let core = alloc::vec![(b"somaxconn".as_slice(), value(180, "4096\n"))];
    let ipv4 = alloc::vec![
        (
            b"ip_local_port_range".as_slice(),
            value(182, "32768\t60999\n")
        ),
        (b"tcp_max_syn_backlog", value(183, "4096\n")),
        (b"ip_forward", value(184, "0\n")),
    ];
    let net = alloc::vec![
        (b"core".as_slice(), folder(185, core)),
        (b"ipv4", folder(186, ipv4))
    ];
    [vm, fs_files, net]
}

/// A random UUID's text, version 4, of the first 16 bytes.
fn uuid_line(bytes: &[u8; 32]) -> Vec<u8> {
    let mut out = String::new();
    for (index, byte) in bytes[..16].iter().enumerate() {
        let byte = match index {
            6 => byte & 0x0f | 0x40,
            8 => byte & 0x3f | 0x80,
            _ => *byte,
        };
        let dash = matches!(index, 4 | 6 | 8 | 10);
        let _ = write!(out, "{}{byte:02x}", if dash { "-" } else { "" });
    }
    out.push('\n');
    out.into_bytes()
}

fn cpuinfo(cpus: u32) -> Vec<u8> {
    use core::arch::x86_64::__cpuid;
    let mut out = String::new();
    let mut model = Vec::new();
    for leaf in 0x8000_0002..=0x8000_0004u32 {
        let words = __cpuid(leaf);
        for word in [words.eax, words.ebx, words.ecx, words.edx] {
            model.extend_from_slice(&word.to_le_bytes());
        }
    }
    let vendor_words = __cpuid(0);
    let mut vendor = Vec::new();
    for word in [vendor_words.ebx, vendor_words.edx, vendor_words.ecx] {
        vendor.extend_from_slice(&word.to_le_bytes());
    }
    let printable = |bytes: &[u8]| {
        String::from_utf8_lossy(bytes)
            .trim_end_matches('\0')
            .trim()
            .into()
    };
    let (model, vendor): (String, String) = (printable(&model), printable(&vendor));
    let (family, number, stepping) = cpu_version(__cpuid(1).eax);
    let flags = cpu_flags();
    let mhz = crate::platform::platform()
        .clock()
        .tsc_khz
        .load(core::sync::atomic::Ordering::Relaxed)
        / 1000;
    for cpu in 0..cpus {
        let _ = write!(
            out,
            "processor\t: {cpu}\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {number}\nmodel name\t: {model}\nstepping\t: {stepping}\ncpu MHz\t\t: {mhz}.000\ncache size\t: 1024 KB\n\
             physical id\t: 0\nsiblings\t: {cpus}\ncore id\t\t: {cpu}\ncpu cores\t: {cpus}\nfpu\t\t: yes\n\
             flags\t\t: {flags}\nclflush size\t: 64\naddress sizes\t: 48 bits physical, 48 bits virtual\n\n"
        );
    }
    out.into_bytes()
}

/// Family, model and stepping from CPUID's version word; the extended fields count for families 6 and 15 alone.
fn cpu_version(word: u32) -> (u32, u32, u32) {
    let (family, model) = (word >> 8 & 0xf, word >> 4 & 0xf);
    let extended = if family == 6 || family == 15 {
        (word >> 16 & 0xf) << 4
    } else {
        0
    };
    let family = if family == 15 {
        family + (word >> 20 & 0xff)
    } else {
        family
    };
    (family, extended | model, word & 0xf)
}

/// The flags that programs test for, by CPUID.
fn cpu_flags() -> String {
    use core::arch::x86_64::{__cpuid, __cpuid_count};
    let (one, seven, extended) = (__cpuid(1), __cpuid_count(7, 0), __cpuid(0x8000_0001));
    let table: &[(u32, u32, &str)] = &[
        (one.edx, 0, "fpu"),
        (one.edx, 4, "tsc"),
        (one.edx, 8, "cx8"),
        (one.edx, 15, "cmov"),
        (one.edx, 23, "mmx"),
        (one.edx, 24, "fxsr"),
        (one.edx, 25, "sse"),
        (one.edx, 26, "sse2"),
        (one.ecx, 0, "pni"),
        (one.ecx, 1, "pclmulqdq"),
        (one.ecx, 9, "ssse3"),
        (one.ecx, 12, "fma"),
        (one.ecx, 13, "cx16"),
        (one.ecx, 19, "sse4_1"),
        (one.ecx, 20, "sse4_2"),
        (one.ecx, 22, "movbe"),
        (one.ecx, 23, "popcnt"),
        (one.ecx, 25, "aes"),
        (one.ecx, 26, "xsave"),
        (one.ecx, 28, "avx"),
        (one.ecx, 29, "f16c"),
        (one.ecx, 30, "rdrand"),
        (seven.ebx, 0, "fsgsbase"),
        (seven.ebx, 3, "bmi1"),
        (seven.ebx, 5, "avx2"),
        (seven.ebx, 8, "bmi2"),
        (seven.ebx, 9, "erms"),
        (seven.ebx, 16, "avx512f"),
        (seven.ebx, 19, "adx"),
        (seven.ebx, 29, "sha_ni"),
        (extended.edx, 11, "syscall"),
        (extended.edx, 20, "nx"),
        (extended.edx, 29, "lm"),
        (extended.ecx, 0, "lahf_lm"),
        (extended.ecx, 5, "abm"),
    ];
    let names: Vec<&str> = table
        .iter()
        .filter(|(word, bit, _)| word >> bit & 1 != 0)
        .map(|row| row.2)
        .collect();
    names.join(" ")
}

/// Bytes of the machine's memory in use: what the personality holds and what the processes have touched.
pub(super) fn used_bytes(kernel: &Kernel) -> u64 {
    let windows: u64 = crate::mm::spaces(kernel)
        .iter()
        .map(|(_, memory)| host::window_usage(memory.window))
        .sum();
    windows + frames::used_bytes()
}

fn meminfo(kernel: &Kernel) -> Vec<u8> {
    let total = kernel.memory_bytes() / 1024;
    let free = total.saturating_sub(used_bytes(kernel) / 1024);
    let rows = [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", free),
        ("Buffers", 0),
        ("Cached", frames::used_bytes() / 1024),
        ("SwapCached", 0),
        ("Active", 0),
        ("Inactive", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", total - free),
        ("Mapped", 0),
        ("Shmem", 0),
        ("Slab", 0),
        ("SReclaimable", 0),
        ("SUnreclaim", 0),
        ("PageTables", 0),
        ("CommitLimit", total),
        ("Committed_AS", total - free),
        ("VmallocTotal", 0),
        ("VmallocUsed", 0),
    ];
    let mut out = String::new();
    for (name, kilobytes) in rows {
        let label = format!("{name}:");
        let _ = writeln!(out, "{label:<16}{kilobytes:>8} kB");
    }
    out.push_str(
        "HugePages_Total:       0\nHugePages_Free:        0\nHugepagesize:       2048 kB\n",
    );
    out.into_bytes()
}

fn stat(kernel: &Kernel) -> Vec<u8> {
    let user = host::cpu_time(u32::MAX) / (time::NS_PER_S / TICKS_PER_S);
    let started = crate::platform::platform()
        .clock()
        .start_monotonic_ns
        .load(core::sync::atomic::Ordering::Relaxed);
    let up = time::monotonic_ns().saturating_sub(started);
    let cpus = u64::from(kernel.config.cpu_count);
    let idle = (up / (time::NS_PER_S / TICKS_PER_S) * cpus).saturating_sub(user);
    let mut out = format!("cpu  {user} 0 0 {idle} 0 0 0 0 0 0\n");
    for cpu in 0..cpus {
        let _ = writeln!(
            out,
            "cpu{cpu} {} 0 0 {} 0 0 0 0 0 0",
            user / cpus,
            idle / cpus
        );
    }
    let boot = (time::realtime_ns().saturating_sub(up)) / time::NS_PER_S;
    let _ = write!(
        out,
        "intr 0\nctxt 0\nbtime {boot}\nprocesses {}\nprocs_running 1\nprocs_blocked 0\n",
        kernel.tasks.task_count()
    );
    out.into_bytes()
}

fn uptime() -> Vec<u8> {
    let started = crate::platform::platform()
        .clock()
        .start_monotonic_ns
        .load(core::sync::atomic::Ordering::Relaxed);
    let centiseconds = time::monotonic_ns().saturating_sub(started) / 10_000_000;
    format!(
        "{0}.{1:02} {0}.{1:02}\n",
        centiseconds / 100,
        centiseconds % 100
    )
    .into_bytes()
}

fn loadavg(kernel: &Kernel) -> Vec<u8> {
    format!(
        "0.00 0.00 0.00 1/{} {}\n",
        kernel.tasks.task_count(),
        super::current().process.pid
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words as processors have them: an Intel of family 6, an AMD of family 23, one from before extended models.
    #[test]
    fn processor_versions() {
        let check = |word, expect| assert_eq!(cpu_version(word), expect, "{word:#x}");
        check(0x0009_06ea, (6, 0x9e, 10));
        check(0x0080_0f12, (0x17, 1, 2));
        check(0x00f0_0543, (5, 4, 3));
    }

    #[test]
    fn uuids_are_of_version_4() {
        let text = String::from_utf8(uuid_line(&[0xff; 32])).unwrap();
        assert_eq!(text, "ffffffff-ffff-4fff-bfff-ffffffffffff\n");
        let text = String::from_utf8(uuid_line(&[0; 32])).unwrap();
        assert_eq!(text, "00000000-0000-4000-8000-000000000000\n");
    }
}
