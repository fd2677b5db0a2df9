//! Measures the store on this machine: `cargo run --release -p cormus-store --example throughput -- FILE`.
//!
//! FILE is memory of a real program, page after page, such as the mappings in /proc/PID/mem one behind the other. It is repeated to 64 MB, and again to 1 GB of which most is
//! zero or repeated, as a large machine's memory is; then 10 MB of scattered pages change and a second snapshot is taken.

use cormus_store::{
    Compression, MemoryRun, NewSnapshot, PAGE_BYTES, Pages, ReadError, Snapshot, SnapshotName,
    Store,
};
use std::error::Error;
use std::time::Instant;

const MB: usize = 1 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args().nth(1).ok_or("name a file with memory")?;
    let mut sample = std::fs::read(file)?;
    sample.truncate(sample.len() / PAGE_BYTES * PAGE_BYTES);
    let directory = std::env::temp_dir().join(format!("cormus-store-{}", std::process::id()));
    let result = measure(&sample, &directory);
    std::fs::remove_dir_all(&directory)?;
    result
}

fn measure(sample: &[u8], directory: &std::path::Path) -> Result<(), Box<dyn Error>> {
    for (name, bytes, used) in [("64 MB", 64 * MB, 64 * MB), ("1 GB", 1024 * MB, 256 * MB)] {
        let memory = memory_like(sample, bytes, used);
        for compression in [Compression::Fast, Compression::None] {
            for threads in [1, 2] {
                println!("{name}, {compression:?}, {threads} threads");
                cycle(
                    memory.clone(),
                    used,
                    &directory.join("store"),
                    compression,
                    threads,
                )?;
                std::fs::remove_dir_all(directory)?;
            }
        }
    }
    std::fs::create_dir_all(directory)?;
    Ok(())
}

/// `bytes` of memory of which `used` are the sample, over and over but each time different from the others in every page.
fn memory_like(sample: &[u8], bytes: usize, used: usize) -> Vec<u8> {
    let mut memory = vec![0; bytes];
    for (number, part) in memory[..used].chunks_mut(sample.len()).enumerate() {
        part.copy_from_slice(&sample[..part.len()]);
        for page in part.chunks_mut(PAGE_BYTES) {
            // Zero pages stay zero.
            if page[0] != 0 || page[PAGE_BYTES / 2] != 0 {
                page[8] ^= number as u8;
            }
        }
    }
    memory
}

fn cycle(
    mut memory: Vec<u8>,
    used: usize,
    path: &std::path::Path,
    compression: Compression,
    threads: usize,
) -> Result<(), Box<dyn Error>> {
    let store = Store::open(path)?;
    let new = |parent| NewSnapshot {
        compression,
        threads,
        ..NewSnapshot::new(parent)
    };
    write(&store, new(None), "first", &[run(0, Pages::Bytes(&memory))])?;
    let first = store.find("first")?;
    read(&first, &memory, threads)?;

    // Pages all over the used part, 10 MB in all, each with a few words changed.
    let step = used / PAGE_BYTES / 2560;
    let changed: Vec<usize> = (0..2560).map(|n| n * step).collect();
    for &page in &changed {
        for word in (0..PAGE_BYTES).step_by(256) {
            memory[page * PAGE_BYTES + word + 100] ^= (page + word / 256) as u8 | 1;
        }
    }
    let mut runs = Vec::new();
    for (&page, &next) in changed
        .iter()
        .zip(changed[1..].iter().chain([&(memory.len() / PAGE_BYTES)]))
    {
        let address = page * PAGE_BYTES;
        runs.push(run(
            address,
            Pages::Bytes(&memory[address..address + PAGE_BYTES]),
        ));
        runs.push(run(
            address + PAGE_BYTES,
            Pages::Unchanged((next - page - 1) as u64),
        ));
    }
    write(&store, new(Some(first.clone())), "tracked", &runs)?;
    write(
        &store,
        new(Some(first)),
        "compared",
        &[run(0, Pages::Bytes(&memory))],
    )?;
    read(&store.find("tracked")?, &memory, threads)?;
    Ok(())
}

fn run(address: usize, pages: Pages<'_>) -> MemoryRun<'_> {
    MemoryRun {
        space: 0,
        address: address as u64,
        pages,
    }
}

fn write(
    store: &Store,
    new: NewSnapshot,
    name: &str,
    runs: &[MemoryRun<'_>],
) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let mut writer = store.write(new)?;
    writer.memory(runs)?;
    let encoded = start.elapsed();
    let committed = writer.commit(&SnapshotName::new(name)?)?;
    println!(
        "  write {name}: {:.1} ms, of it commit {:.1}; memory {:.1} MB, stored {:.2}, written {:.2}, manifest {:.2}",
        start.elapsed().as_secs_f64() * 1e3,
        (start.elapsed() - encoded).as_secs_f64() * 1e3,
        committed.memory_bytes as f64 / 1e6,
        committed.stored_bytes as f64 / 1e6,
        committed.written_bytes as f64 / 1e6,
        committed.manifest_bytes as f64 / 1e6,
    );
    Ok(())
}

fn read(snapshot: &Snapshot, memory: &[u8], threads: usize) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let runs = snapshot.runs(0).map(|run| (0, run));
    snapshot.visit(runs, threads, |_, address, bytes| {
        let start = address as usize;
        assert!(bytes == &memory[start..start + bytes.len()], "other memory");
        Ok::<(), ReadError>(())
    })?;
    let took = start.elapsed().as_secs_f64();
    println!(
        "  read: {:.1} ms, {:.0} MB/s",
        took * 1e3,
        snapshot.memory_bytes() as f64 / 1e6 / took
    );
    Ok(())
}
