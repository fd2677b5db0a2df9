//! The personality's image: its header, and its place in the region.

use cormus_guest_mem::{Frozen, Region};
use cormus_hypercall::area::{BLOB_MAGIC, BlobHeader, Fixup};
use cormus_hypercall::layout::{CLOCK_OFFSET, IMAGE_SIZE_MAX, REGION_BASE, VDSO_OFFSET};
use cormus_hypercall::{VERSION, VERSION_OLDEST, area};
use cormus_linux_abi::{PAGE_SIZE, Pod, SysResult, as_bytes_mut};
use std::borrow::Cow;
use std::os::fd::AsFd;

/// An image to run in a machine.
#[derive(Debug)]
pub(crate) struct Blob {
    /// The code, and after it the first contents of the data if the machine is a new one.
    image: Cow<'static, [u8]>,
    header: BlobHeader,
    build: u64,
}

/// What a code address of the guest belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The program, its libraries or the vDSO.
    Program,
    /// The personality's way out, which can begin again.
    WayOut,
    /// Code of the personality that may fault; where it goes on then.
    Fixup(u64),
    /// The rest of the personality.
    Personality,
}

impl Blob {
    /// The image that was built with this program.
    ///
    /// # Panics
    /// If the image is not one of this interface's version: it was linked into this program.
    pub(crate) fn built_in() -> Blob {
        let image = Cow::Borrowed(cormus_personality_image::IMAGE);
        Blob::new(image, cormus_personality_image::BUILD)
            .unwrap_or_else(|reason| panic!("the blob of this program: {reason}"))
    }

    /// The image that a machine at rest was running.
    ///
    /// # Errors
    /// Why this program cannot run it.
    pub(crate) fn at_rest(build: u64, memory: &Frozen) -> Result<Blob, &'static str> {
        if build == cormus_personality_image::BUILD {
            return Ok(Blob::built_in());
        }
        let mut image = vec![0; size_of::<BlobHeader>()];
        // Its code lies at the start of the region, if it came from a snapshot.
        let unread = |_| "its memory cannot be read";
        memory.read(0, &mut image).map_err(unread)?;
        let code = read_header(&image)?.read_only_end - REGION_BASE;
        image.resize(code as usize, 0);
        memory.read(0, &mut image).map_err(unread)?;
        Blob::new(Cow::Owned(image), build)
    }

    fn new(image: Cow<'static, [u8]>, build: u64) -> Result<Blob, &'static str> {
        let header = read_header(&image)?;
        let code = header.read_only_end - REGION_BASE;
        if (image.len() as u64) < code || image.len() as u64 > IMAGE_SIZE_MAX {
            return Err("its personality has another size than it says");
        }
        Ok(Blob {
            image,
            header,
            build,
        })
    }

    /// Addresses that the blob names.
    pub(crate) fn header(&self) -> &BlobHeader {
        &self.header
    }

    /// Which build of the blob this is.
    pub(crate) fn build(&self) -> u64 {
        self.build
    }

    fn is_built_in(&self) -> bool {
        self.build == cormus_personality_image::BUILD
    }

    fn fixups(&self) -> &[Fixup] {
        &self.header.fixups[..self.header.fixup_count as usize]
    }

    /// What a code address belongs to.
    pub(crate) fn place(&self, rip: u64) -> Place {
        if !(REGION_BASE..REGION_BASE + IMAGE_SIZE_MAX).contains(&rip) {
            return Place::Program;
        }
        if (self.header.exit_start..self.header.exit_end).contains(&rip) {
            return Place::WayOut;
        }
        self.fixups()
            .iter()
            .find(|fixup| (fixup.start..fixup.end).contains(&rip))
            .map_or(Place::Personality, |fixup| Place::Fixup(fixup.resume))
    }

    /// Brings the image and the vDSO to their places and makes the code read-only. Where nothing but processors will see
    /// the code (`shared`), it is the pages of this program's own file.
    pub(crate) fn load(&self, region: &Region, shared: bool) -> SysResult<()> {
        const _: () = assert!(CLOCK_OFFSET >= IMAGE_SIZE_MAX);
        // A machine at rest brings its own, with the rest of its memory.
        region.write_bytes(REGION_BASE + VDSO_OFFSET, cormus_personality_image::VDSO)?;
        let code = self.header.read_only_end - REGION_BASE;
        let file = (shared && self.is_built_in())
            .then(cormus_personality_image::image_file)
            .flatten();
        let Some((file, offset)) = file else {
            region.write_bytes(REGION_BASE, &self.image)?;
            return region.protect_image(code);
        };
        let written = self.image.get(code as usize..).unwrap_or_default();
        region.write_bytes(REGION_BASE + code, written)?;
        region.map_image(file.as_fd(), offset, code)
    }

    /// A code address of the blob in words.
    pub(crate) fn describe(&self, address: u64) -> String {
        match cormus_personality_image::symbol(address) {
            Some((name, offset)) if self.is_built_in() && self.place(address) != Place::Program => {
                format!("{name}+{offset:#x}")
            }
            _ => format!("{address:#x}"),
        }
    }
}

/// Which build the image is that was built with this program.
pub(crate) fn built_in_build() -> u64 {
    cormus_personality_image::BUILD
}

/// The code and constants of the image that was built with this program: what a machine shares with this program's file, so that
/// no memory at rest has it.
pub(crate) fn built_in_code() -> &'static [u8] {
    let blob = Blob::built_in();
    &cormus_personality_image::IMAGE[..(blob.header.read_only_end - REGION_BASE) as usize]
}

/// The header of a blob that may be anybody's.
fn read_header(image: &[u8]) -> Result<BlobHeader, &'static str> {
    let mut header = BlobHeader::zeroed();
    let bytes = image.get(..size_of::<BlobHeader>());
    as_bytes_mut(&mut header).copy_from_slice(bytes.ok_or("its personality has no header")?);
    if header.magic != BLOB_MAGIC {
        return Err("it was taken by another build of cormus and does not hold its personality");
    }
    if !(VERSION_OLDEST..=VERSION).contains(&header.version) {
        return Err("its personality speaks another version of the hypercall interface");
    }
    let sizes = size_of::<BlobHeader>() as u64..=IMAGE_SIZE_MAX;
    let code = header.read_only_end.wrapping_sub(REGION_BASE);
    let code_is_pages = sizes.contains(&code) && code.is_multiple_of(PAGE_SIZE);
    let in_code = |address: u64| (REGION_BASE..header.read_only_end).contains(&address);
    let entries = [
        header.syscall_entry,
        header.upcall_entry,
        header.boot_entry,
        header.thread_entry,
        header.exit_start,
        header.exit_end,
        header.hypercall_restart,
        header.hypercall_return,
        header.direct_entry,
    ];
    let count = header.fixup_count as usize;
    let resumes = |fixups: &[Fixup]| fixups.iter().all(|fixup| in_code(fixup.resume));
    if !code_is_pages
        || !entries.into_iter().all(in_code)
        || !header.fixups.get(..count).is_some_and(resumes)
    {
        return Err("the header of its personality makes no sense");
    }
    Ok(header)
}

/// The blob's entry code knows the frame by this size.
const _: () = assert!(size_of::<area::Regs>() == 168);
