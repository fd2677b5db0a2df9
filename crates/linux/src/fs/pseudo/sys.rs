//! `/sys`: processors and memory nodes, as far as runtimes count them there.

use super::node::{Directory, Head, SYSFS_MAGIC, Text};
use crate::fs::{Inode, NodeKind};
use crate::kernel::Kernel;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

type Entry = (&'static [u8], Arc<dyn Inode>);

fn head(ino: u64, mode: u32) -> Head {
    Head {
        ino,
        mode,
        owner: (0, 0),
        magic: SYSFS_MAGIC,
        rdev: 0,
    }
}

fn folder(ino: u64, entries: Vec<Entry>) -> Arc<dyn Inode> {
    Directory::node(head(ino, NodeKind::Directory as u32 | 0o555), entries)
}

fn line(ino: u64, text: alloc::string::String) -> Arc<dyn Inode> {
    Text::node(head(ino, NodeKind::Regular as u32 | 0o444), move |_| {
        Ok(text.clone().into_bytes())
    })
}

/// The root of `/sys`.
pub fn root(kernel: &'static Kernel) -> Arc<dyn Inode> {
    let last = kernel.config.cpu_count.saturating_sub(1);
    let range = if last == 0 {
        "0\n".into()
    } else {
        format!("0-{last}\n")
    };
    let cpu = cpus(kernel.config.cpu_count, &range);
    let node0 = alloc::vec![
        (b"cpulist".as_slice(), line(0x201, range)),
        (
            b"meminfo",
            Text::node(head(0x202, NodeKind::Regular as u32 | 0o444), move |_| {
                let total = kernel.memory_bytes() / 1024;
                let text = format!(
                    "Node 0 MemTotal: {total} kB\nNode 0 MemFree: {total} kB\nNode 0 MemUsed: 0 kB\n"
                );
                Ok(text.into_bytes())
            })
        ),
    ];
    let node = alloc::vec![
        (b"online".as_slice(), line(0x203, "0\n".into())),
        (b"possible", line(0x204, "0\n".into())),
        (b"node0", folder(0x205, node0)),
    ];
    let system = alloc::vec![(b"cpu".as_slice(), cpu), (b"node", folder(0x206, node))];
    let devices = alloc::vec![(b"system".as_slice(), folder(0x207, system))];
    let huge = alloc::vec![
        (
            b"enabled".as_slice(),
            line(0x301, "always [madvise] never\n".into())
        ),
        (b"hpage_pmd_size", line(0x302, "2097152\n".into())),
    ];
    let mm = alloc::vec![(b"transparent_hugepage".as_slice(), folder(0x303, huge))];
    let kernel_dir = alloc::vec![(b"mm".as_slice(), folder(0x304, mm))];
    let fs = alloc::vec![(b"cgroup".as_slice(), folder(0x401, Vec::new()))];
    folder(
        1,
        alloc::vec![
            (b"devices".as_slice(), folder(0x208, devices)),
            (b"kernel", folder(0x305, kernel_dir)),
            (b"fs", folder(0x402, fs)),
        ],
    )
}

fn cpus(count: u32, range: &str) -> Arc<dyn Inode> {
    let (listed, found) = (count, count);
    let fixed = alloc::vec![
        (b"online".as_slice(), line(0x101, range.into())),
        (b"possible", line(0x102, range.into())),
        (b"present", line(0x103, range.into())),
        (b"kernel_max", line(0x104, "8191\n".into())),
    ];
    let find = move |name: &[u8]| {
        let index = core::str::from_utf8(name)
            .ok()
            .and_then(|name| name.strip_prefix("cpu")?.parse::<u32>().ok());
        match index.filter(|&index| index < found) {
            None => Err(crate::Errno::ENOENT),
            Some(index) => {
                let base = 0x1000 + u64::from(index) * 16;
                let topology = alloc::vec![
                    (b"core_id".as_slice(), line(base + 1, format!("{index}\n"))),
                    (b"physical_package_id", line(base + 2, "0\n".into())),
                ];
                let online = (b"online".as_slice(), line(base + 3, "1\n".into()));
                Ok(folder(
                    base,
                    alloc::vec![(b"topology".as_slice(), folder(base + 4, topology)), online],
                ))
            }
        }
    };
    let list = move || {
        (0..listed)
            .map(|index| (format!("cpu{index}").into_bytes(), NodeKind::Directory))
            .collect()
    };
    Directory::dynamic(
        head(0x100, NodeKind::Directory as u32 | 0o555),
        fixed,
        find,
        list,
    )
}
