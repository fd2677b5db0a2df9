//! What the personality finds when it begins: the configuration, and what the program's start needs to know of files.
//!
//! A start is mostly look-ups, and each that the personality has to make is an exit. So the paths are walked here, by the same code
//! and as the personality would walk them, and the records lie ready. They are a help and not a promise: what is missing
//! or does not fit is asked for, and what is there is what a look-up at this moment would have told.

mod library;

use crate::config::Config;
use crate::end::StartError;
use crate::file_size;
use crate::files::{Files, Walk};
use crate::streams::Streams;
use cormus_guest_mem::Region;
use cormus_hypercall::file::walk::{FOLLOW, OPEN};
use cormus_hypercall::layout::{BOOT_OFFSET, BOOT_SIZE_MAX, REGION_BASE};
use cormus_linux_abi::SysResult;

/// Where the personality mounts file systems of its own.
const MOUNT_POINTS: [&[u8]; 3] = [b"/proc", b"/sys", b"/dev"];
/// Where a program is looked for when the environment has no `PATH`; the personality's own list.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How much of a program is looked at for its interpreter.
const HEAD_LEN: usize = 4096;
/// Most room that the records take.
const RECORDS_LEN_MAX: usize = 256 << 10;
/// What a program must have to be executed, by anybody.
const EXECUTABLE: u32 = 0o111;

/// Writes the configuration to its place in the region, and what is known of files behind it.
pub(crate) fn write(
    config: &Config,
    files: &Files,
    streams: &Streams,
    region: &Region,
) -> Result<(), StartError> {
    let mut seed = [0; 32];
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty()).map_err(|error| {
        StartError::Host {
            action: "get random bytes",
            source: error.into(),
        }
    })?;
    let roots = files.root_attributes().map_err(StartError::Memory)?;
    let streams = [0, 1, 2].map(|number| streams.info(number).unwrap_or(0));
    let boot = config.boot(&roots, streams, file_size::lift()?, seed);
    let bytes = postcard::to_allocvec(&boot).unwrap_or_default();
    let max = BOOT_SIZE_MAX - 8;
    if bytes.len() as u64 > max {
        return Err(StartError::TooLong {
            len: bytes.len(),
            max,
        });
    }
    let place = REGION_BASE + BOOT_OFFSET;
    region
        .write(place, &(bytes.len() as u64))
        .and_then(|()| region.write_bytes(place + 8, &bytes))
        .map_err(StartError::Memory)?;
    let behind = (8 + bytes.len() as u64).next_multiple_of(8);
    let room = BOOT_SIZE_MAX.saturating_sub(behind + 8) as usize;
    // Without records the personality asks, so nothing here makes a start fail.
    if let Ok(records) = look(config, files, room.min(RECORDS_LEN_MAX)) {
        region
            .write(place + behind, &(records.len() as u64))
            .and_then(|()| region.write_bytes(place + behind + 8, &records))
            .map_err(StartError::Memory)?;
    }
    Ok(())
}

/// Walks to all that a start comes by.
fn look(config: &Config, files: &Files, room: usize) -> SysResult<Vec<u8>> {
    let mut walk = Walk::new(files, 0, room)?;
    for volume in config.roots.iter().skip(1) {
        walk.follow(b"", &volume.mount_point, FOLLOW);
    }
    for place in MOUNT_POINTS {
        walk.follow(b"", place, FOLLOW);
    }
    walk.follow(b"", &config.directory, FOLLOW);
    if let Some(program) = find(config, &mut walk) {
        interpreters(files, &mut walk, program);
    }
    Ok(walk.into_records())
}

/// The program's file, looked for as the personality does.
fn find(config: &Config, walk: &mut Walk<'_>) -> Option<u64> {
    let program = &config.program;
    if program.contains(&b'/') {
        return open(config, walk, program);
    }
    let entries = config.environment.iter();
    let path = entries
        .filter_map(|entry| entry.strip_prefix(b"PATH="))
        .next()
        .unwrap_or(DEFAULT_PATH);
    path.split(|&byte| byte == b':')
        .find_map(|directory| open(config, walk, &[directory, b"/", program].concat()))
}

fn open(config: &Config, walk: &mut Walk<'_>, path: &[u8]) -> Option<u64> {
    let whole = if path.first() == Some(&b'/') {
        path.to_vec()
    } else {
        [config.directory.as_slice(), b"/", path].concat()
    };
    let end = walk.follow(b"", &whole, FOLLOW | OPEN)?;
    end.handle.filter(|_| end.mode & EXECUTABLE != 0)
}

/// What runs a script, and what loads a dynamic program.
fn interpreters(files: &Files, walk: &mut Walk<'_>, program: u64) -> Option<()> {
    let file = files.file(program).ok()?;
    let mut head = vec![0; HEAD_LEN];
    let len = file.peek(0, &mut head).ok()?;
    head.truncate(len);
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|&byte| byte == b'\n').next()?;
        let name = line
            .split(|byte| b" \t".contains(byte))
            .find(|word| !word.is_empty())?;
        // A script that names a script is rare; the personality asks for that one's.
        let end = walk.follow(b"", name, FOLLOW | OPEN)?;
        return libraries(files, walk, end.handle?);
    }
    libraries(files, walk, program)
}

/// The loader of a program, and the libraries that glibc's will open: those that its cache names.
fn libraries(files: &Files, walk: &mut Walk<'_>, program: u64) -> Option<()> {
    let program = library::read(&files.file(program).ok()?)?;
    walk.follow(b"", &program.interpreter?, FOLLOW | OPEN)?;
    walk.follow(b"", b"/etc/ld.so.preload", FOLLOW);
    let cache = walk.follow(b"", b"/etc/ld.so.cache", FOLLOW | OPEN)?;
    let cache = library::Cache::read(&files.file(cache.handle?).ok()?)?;
    let mut wanted = program.needed;
    let mut next = 0;
    while next < wanted.len() && next < library::COUNT_MAX {
        let path = cache.find(&wanted[next]).map(<[u8]>::to_vec);
        next += 1;
        let end = path.and_then(|path| walk.follow(b"", &path, FOLLOW | OPEN));
        let Some(file) = end.and_then(|end| files.file(end.handle?).ok()) else {
            continue;
        };
        for name in library::read(&file).map_or(Vec::new(), |library| library.needed) {
            if !wanted.contains(&name) {
                wanted.push(name);
            }
        }
    }
    Some(())
}
