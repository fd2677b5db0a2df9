//! From a path to files and images: scripts are followed to their interpreters, dynamic programs to their loader.

use super::elf::{self, Image, ReadAt};
use super::script;
use crate::fs::busy;
use crate::fs::inode::check_access;
use crate::fs::walk::{self, AT_FDCWD, WalkFlags};
use crate::fs::{File, NodeKind, OpenFlags, Path};
use crate::io::Dst;
use crate::task::Task;
use crate::{Errno, SysResult};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Most scripts that name one another as interpreters, as in Linux.
const SCRIPT_DEPTH_MAX: usize = 5;
/// How much of a file is read at first: the headers of a usual program.
const HEAD_LEN: usize = 2048;

/// How programs are looked for.
const HOW: WalkFlags = WalkFlags::FOLLOW.union(WalkFlags::OPENS);

/// An opened program file.
pub(super) struct Opened {
    pub(super) file: Arc<File>,
    pub(super) image: Image,
}

/// All that is to be loaded.
pub(super) struct Program {
    pub(super) main: Opened,
    pub(super) interpreter: Option<Opened>,
    /// Arguments, with those that scripts have added.
    pub(super) arguments: Vec<Vec<u8>>,
    /// The name that the program is called by, its own for a script.
    pub(super) name: Vec<u8>,
}

struct FileBytes<'a> {
    file: &'a Arc<File>,
    task: &'a Task,
}

impl ReadAt for FileBytes<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> SysResult<usize> {
        let mut done = 0;
        while done < buffer.len() {
            let mut dst = Dst::own(&mut buffer[done..]);
            let at = offset.checked_add(done as u64).ok_or(Errno::EINVAL)?;
            match self.file.ops.read(self.file, self.task, &mut dst, at)? {
                0 => break,
                read => done += read,
            }
        }
        Ok(done)
    }
}

/// Follows `path`, called by `name`, to a program and its interpreter.
///
/// # Errors
/// As execve(2).
pub(super) fn find(
    task: &Task,
    mut path: Path,
    mut name: Vec<u8>,
    mut arguments: Vec<Vec<u8>>,
    name_reachable: bool,
) -> SysResult<Program> {
    for _ in 0..=SCRIPT_DEPTH_MAX {
        let file = open(task, &path)?;
        let mut head = alloc::vec![0; HEAD_LEN];
        let reader = FileBytes { file: &file, task };
        let len = reader.read_at(0, &mut head)?;
        head.truncate(len);
        let Some(line) = script::parse(&head) else {
            let image = elf::read_image(&head, &reader)?;
            let interpreter = match &image.interpreter {
                Some(interpreter) => Some(open_interpreter(task, interpreter)?),
                None => None,
            };
            return Ok(Program {
                main: Opened { file, image },
                interpreter,
                arguments,
                name,
            });
        };
        if !name_reachable {
            // The script's descriptor is closed before its interpreter could open it.
            return Err(Errno::ENOENT);
        }
        let rest = arguments.split_off(arguments.len().min(1));
        arguments = alloc::vec![line.interpreter.clone()];
        arguments.extend(line.argument);
        arguments.push(name);
        arguments.extend(rest);
        path = walk::lookup(task, AT_FDCWD, &line.interpreter, HOW)?;
        name = line.interpreter;
    }
    Err(Errno::ELOOP)
}

fn open(task: &Task, path: &Path) -> SysResult<Arc<File>> {
    let attr = path.inode.attr()?;
    if path.inode.kind() != NodeKind::Regular {
        return Err(Errno::EACCES);
    }
    check_access(&attr, &task.credentials(), 1)?;
    if busy::is_written(&path.inode) {
        return Err(Errno::ETXTBSY);
    }
    // Execution needs no right to read, so the file is opened below the checks of open(2).
    let ops = path.inode.clone().open(task, OpenFlags::empty())?;
    let id = task.kernel.unique_id();
    Ok(File::new(ops, Some(path.clone()), OpenFlags::empty(), id))
}

fn open_interpreter(task: &Task, name: &[u8]) -> SysResult<Opened> {
    let path = walk::lookup(task, AT_FDCWD, name, HOW)?;
    let file = open(task, &path)?;
    let mut head = alloc::vec![0; HEAD_LEN];
    let reader = FileBytes { file: &file, task };
    let len = reader.read_at(0, &mut head)?;
    head.truncate(len);
    let image = elf::read_image(&head, &reader).map_err(|error| match error {
        Errno::ENOEXEC => Errno::ELIBBAD,
        other => other,
    })?;
    Ok(Opened { file, image })
}
