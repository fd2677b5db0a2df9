//! Events of a directory as a watcher reads them.

use crate::testing::{self, user_memory};
use crate::{Errno, user};
use alloc::sync::Arc;
use alloc::vec::Vec;
use cormus_linux_abi::raw::general as nr;
use std::string::String;

const NONBLOCK: u64 = 0o4000;
const CWD: u64 = -100i64 as u64;

struct Watcher {
    task: Arc<crate::task::Task>,
    fd: u64,
}

impl Watcher {
    fn path(&self, path: &str) -> u64 {
        let address = user_memory(path.len() + 1);
        user::write_bytes(address, path.as_bytes()).unwrap();
        address
    }

    fn call(&self, number: u32, arguments: &[u64]) -> u64 {
        testing::call(&self.task, number, arguments).unwrap()
    }

    /// All queued events: mask and name each.
    fn events(&self) -> Vec<(u32, String)> {
        let address = user_memory(4096);
        let len = match testing::call(&self.task, nr::__NR_read, &[self.fd, address, 4096]) {
            Ok(len) => len as usize,
            Err(Errno::EAGAIN) => 0,
            Err(error) => panic!("{error}"),
        };
        let mut bytes = std::vec![0; len];
        user::read_bytes(address, &mut bytes).unwrap();
        let mut events = Vec::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let word = |at: usize| u32::from_ne_bytes(rest[at..at + 4].try_into().unwrap());
            let end = 16 + word(12) as usize;
            let name = rest[16..end]
                .split(|byte| *byte == 0)
                .next()
                .unwrap_or_default();
            events.push((word(4), String::from_utf8(name.to_vec()).unwrap()));
            rest = &rest[end..];
        }
        events
    }
}

#[test]
fn a_directory_hears_of_its_entries() {
    use super::mask::*;
    let task = testing::task();
    let fd = testing::call(&task, nr::__NR_inotify_init1, &[NONBLOCK]).unwrap();
    let watcher = Watcher { task, fd };
    watcher.call(nr::__NR_mkdir, &[watcher.path("/watched"), 0o755]);
    let directory = watcher.path("/watched");
    watcher.call(
        nr::__NR_inotify_add_watch,
        &[fd, directory, u64::from(ALL_EVENTS)],
    );
    let check = |expect: &[(u32, &str)]| {
        let got = watcher.events();
        let got: Vec<(u32, &str)> = got
            .iter()
            .map(|(mask, name)| (*mask, name.as_str()))
            .collect();
        assert_eq!(got, expect);
    };
    check(&[]);
    let file = watcher.path("/watched/f");
    let made = watcher.call(nr::__NR_openat, &[CWD, file, 0o101, 0o644]);
    check(&[(CREATE, "f"), (OPEN, "f")]);
    watcher.call(nr::__NR_write, &[made, file, 3]);
    watcher.call(nr::__NR_write, &[made, file, 3]);
    watcher.call(nr::__NR_close, &[made]);
    check(&[(MODIFY, "f"), (CLOSE_WRITE, "f")]);
    let other = watcher.path("/watched/g");
    watcher.call(nr::__NR_rename, &[file, other]);
    check(&[(MOVED_FROM, "f"), (MOVED_TO, "g")]);
    watcher.call(nr::__NR_unlink, &[other]);
    check(&[(DELETE, "g")]);
    watcher.call(nr::__NR_rmdir, &[directory]);
    check(&[(DELETE_SELF, ""), (IGNORED, "")]);
}
