use super::*;
use crate::fs::{Events, File};
use crate::testing;
use crate::user;
use std::thread;
use std::vec;
use std::vec::Vec;

fn pipe(task: &Arc<Task>, flags: OpenFlags) -> [Arc<File>; 2] {
    let out = testing::user_memory(8);
    let number = cormus_linux_abi::raw::general::__NR_pipe2;
    testing::call(task, number, &[out, u64::from(flags.bits())]).unwrap();
    let fds: [i32; 2] = user::read(out).unwrap();
    fds.map(|fd| task.files().remove(fd).unwrap())
}

fn read(file: &File, task: &Task, len: usize) -> SysResult<Vec<u8>> {
    let mut buffer = vec![0; len];
    let count = file.ops.read(file, task, &mut Dst::own(&mut buffer), 0)?;
    buffer.truncate(count);
    Ok(buffer)
}

fn write(file: &File, task: &Task, bytes: &[u8]) -> SysResult<usize> {
    file.ops.write(file, task, &mut Src::own(bytes), 0)
}

#[test]
fn ends_and_errors() {
    let task = testing::task();
    let [r, w] = pipe(&task, OpenFlags::NONBLOCK);
    assert_eq!(read(&r, &task, 1), Err(Errno::EAGAIN));
    assert_eq!(write(&w, &task, b"hello"), Ok(5));
    assert_eq!(read(&r, &task, 2), Ok(b"he".to_vec()));
    assert_eq!(read(&r, &task, 9), Ok(b"llo".to_vec()));
    assert_eq!(r.ops.poll(&r), Events::empty());
    write(&w, &task, b"x").unwrap();
    drop(w);
    let data = Events::IN | Events::RDNORM;
    assert_eq!(r.ops.poll(&r), data | Events::HUP);
    assert_eq!(read(&r, &task, 9), Ok(b"x".to_vec()));
    assert_eq!(read(&r, &task, 9), Ok(Vec::new()));
    assert_eq!(r.ops.poll(&r), Events::HUP);
    let [r, w] = pipe(&task, OpenFlags::empty());
    drop(r);
    assert_eq!(write(&w, &task, b"x"), Err(Errno::EPIPE));
    let room = Events::OUT | Events::WRNORM;
    assert_eq!(w.ops.poll(&w), room | Events::ERR);
    assert_eq!(write(&w, &task, b""), Ok(0));
}

#[test]
fn capacities() {
    let task = testing::task();
    let [r, w] = pipe(&task, OpenFlags::NONBLOCK);
    let big = vec![1u8; 1 << 20];
    assert_eq!(write(&w, &task, &big), Ok(65536));
    assert_eq!(write(&w, &task, b"x"), Err(Errno::EAGAIN));
    assert_eq!(w.ops.poll(&w), Events::empty());
    assert_eq!(read(&r, &task, 100).unwrap().len(), 100);
    assert_eq!(w.ops.poll(&w), Events::empty());
    assert_eq!(write(&w, &task, &big[..4096]), Err(Errno::EAGAIN));
    assert_eq!(read(&r, &task, 4096).unwrap().len(), 4096);
    assert_eq!(write(&w, &task, &big[..4096]), Ok(4096));
    assert_eq!(set_size(&w, 1 << 20), Ok(1 << 20));
    assert_eq!(set_size(&w, 4096), Err(Errno::EBUSY));
    assert_eq!(set_size(&w, 2 << 20), Err(Errno::EPERM));
    while read(&r, &task, 1 << 20).is_ok() {}
    assert_eq!(set_size(&w, 1), Ok(4096));
    assert_eq!(write(&w, &task, &big[..10000]), Ok(4096));
    read(&r, &task, 8192).unwrap();
    assert_eq!(set_size(&w, 5000), Ok(8192));
    assert_eq!(size(&r), Ok(8192));
}

#[test]
fn packets_keep_their_bounds() {
    let task = testing::task();
    let [r, w] = pipe(&task, OpenFlags::NONBLOCK | OpenFlags::DIRECT);
    for packet in [&b"one"[..], b"three", b"four"] {
        assert_eq!(write(&w, &task, packet), Ok(packet.len()));
    }
    assert_eq!(read(&r, &task, 100), Ok(b"one".to_vec()));
    assert_eq!(read(&r, &task, 2), Ok(b"th".to_vec()));
    assert_eq!(read(&r, &task, 100), Ok(b"four".to_vec()));
    assert_eq!(write(&w, &task, &[7; 5000]), Ok(5000));
    w.set_status_flags(OpenFlags::NONBLOCK);
    assert_eq!(write(&w, &task, b"stream"), Ok(6));
    assert_eq!(read(&r, &task, 9000).unwrap().len(), 4096);
    assert_eq!(read(&r, &task, 9000).unwrap().len(), 904);
    assert_eq!(read(&r, &task, 9000), Ok(b"stream".to_vec()));
    w.set_status_flags(OpenFlags::NONBLOCK | OpenFlags::DIRECT);
    let fits = (0..100).take_while(|_| write(&w, &task, b"p").is_ok());
    assert_eq!(fits.count(), 16);
}

/// Blocking writers of whole pieces and a blocking reader: nothing torn, nothing lost, the end is seen.
#[test]
fn pieces_stay_whole() {
    let task = testing::task();
    let [r, w] = pipe(&task, OpenFlags::empty());
    thread::scope(|scope| {
        for letter in b"abc" {
            let w = w.clone();
            let task = &task;
            scope.spawn(move || {
                let task = testing::sibling(task);
                for _ in 0..100 {
                    assert_eq!(write(&w, &task, &[*letter; 4096]), Ok(4096));
                }
            });
        }
        drop(w);
        let mut all = Vec::new();
        loop {
            let part = read(&r, &task, 3000).unwrap();
            if part.is_empty() {
                break;
            }
            all.extend(part);
        }
        assert_eq!(all.len(), 3 * 100 * 4096);
        for piece in all.chunks(4096) {
            assert!(piece.iter().all(|byte| *byte == piece[0]));
        }
    });
}

#[test]
fn a_fifo_waits_for_its_other_end() {
    let task = testing::task();
    let fifo = Arc::new(Fifo::new());
    let node = || AnonNode::new(&task, 1, 0o010600, PIPE_FS, None);
    let nonblocking = OpenFlags::NONBLOCK;
    let refused = fifo.open(node(), &task, OpenFlags::WRONLY | nonblocking);
    assert_eq!(refused.err(), Some(Errno::ENXIO));
    let reader = fifo.open(node(), &task, nonblocking).unwrap();
    let file = File::new(reader, None, nonblocking, 1);
    assert_eq!(read(&file, &task, 1), Ok(Vec::new()));
    assert_eq!(file.ops.poll(&file), Events::empty());
    drop(file);
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            let task = testing::sibling(&task);
            let writer = fifo.open(node(), &task, OpenFlags::WRONLY).unwrap();
            let file = File::new(writer, None, OpenFlags::WRONLY, 2);
            write(&file, &task, b"met").unwrap();
        });
        let reader = fifo.open(node(), &task, OpenFlags::empty()).unwrap();
        let file = File::new(reader, None, OpenFlags::empty(), 3);
        assert_eq!(read(&file, &task, 9), Ok(b"met".to_vec()));
        other.join().unwrap();
        assert_eq!(read(&file, &task, 9), Ok(Vec::new()));
        assert_eq!(file.ops.poll(&file), Events::HUP);
    });
}

#[test]
fn bytes_are_passed_on() {
    use cormus_linux_abi::raw::general as nr;
    let task = testing::task();
    let make = || {
        let out = testing::user_memory(8);
        testing::call(&task, nr::__NR_pipe2, &[out, 0]).unwrap();
        user::read::<[u32; 2]>(out).unwrap().map(u64::from)
    };
    let ([ar, aw], [br, bw]) = (make(), make());
    let file = |fd: u64| task.files().get(fd as i32).unwrap();
    let call = |number, arguments: &[u64]| testing::call(&task, number, arguments);
    write(&file(aw), &task, b"hello").unwrap();
    assert_eq!(call(nr::__NR_tee, &[ar, bw, 3, 0]), Ok(3));
    assert_eq!(read(&file(br), &task, 9), Ok(b"hel".to_vec()));
    assert_eq!(call(nr::__NR_splice, &[ar, 0, bw, 0, 100, 0]), Ok(5));
    assert_eq!(read(&file(br), &task, 9), Ok(b"hello".to_vec()));
    let nonblock = 2;
    assert_eq!(
        call(nr::__NR_splice, &[ar, 0, bw, 0, 1, nonblock]),
        Err(Errno::EAGAIN)
    );
    assert_eq!(
        call(nr::__NR_tee, &[ar, aw, 1, nonblock]),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        call(nr::__NR_splice, &[ar, 8, bw, 0, 1, 0]),
        Err(Errno::ESPIPE)
    );
    let memory = testing::user_memory(64);
    user::write_bytes(memory + 32, b"vmsplice").unwrap();
    user::write(memory, &[memory + 32, 2, memory + 34, 6]).unwrap();
    assert_eq!(call(nr::__NR_vmsplice, &[aw, memory, 2, 0]), Ok(8));
    assert_eq!(read(&file(ar), &task, 9), Ok(b"vmsplice".to_vec()));
    drop(task.files().remove(aw as i32));
    assert_eq!(call(nr::__NR_splice, &[ar, 0, bw, 0, 1, 0]), Ok(0));
}
