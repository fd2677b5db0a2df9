//! The personality's image: its header, and its place in the region.

use cormus_guest_mem::Region;
use cormus_hypercall::area::{BLOB_MAGIC, BlobHeader, FIXUP_COUNT_MAX, Fixup};
use cormus_hypercall::layout::{
    CLOCK_OFFSET, IMAGE_SIZE_MAX, REGION_BASE, VDSO_OFFSET, VDSO_SIZE_MAX,
};
use cormus_hypercall::{VERSION, area};
use cormus_linux_abi::{Pod, SysResult, as_bytes_mut};
use std::os::fd::AsFd;

/// An image to run in a machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blob {
    image: &'static [u8],
    vdso: &'static [u8],
    header: BlobHeader,
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
    pub(crate) fn built_in() -> Blob {
        Blob::new(
            cormus_personality_image::IMAGE,
            cormus_personality_image::VDSO,
        )
    }

    /// # Panics
    /// If the image is not one of this interface's version: it was linked into this program.
    pub(crate) fn new(image: &'static [u8], vdso: &'static [u8]) -> Blob {
        let mut header = BlobHeader::zeroed();
        let size = size_of::<BlobHeader>();
        assert!(image.len() >= size && image.len() as u64 <= IMAGE_SIZE_MAX);
        assert!(vdso.len() as u64 <= VDSO_SIZE_MAX);
        as_bytes_mut(&mut header).copy_from_slice(&image[..size]);
        assert_eq!(header.magic, BLOB_MAGIC, "the blob begins with its header");
        assert_eq!(header.version, VERSION, "the blob is of this interface");
        assert!(header.fixup_count <= FIXUP_COUNT_MAX as u64);
        Blob {
            image,
            vdso,
            header,
        }
    }

    /// Addresses that the blob names.
    pub(crate) fn header(&self) -> &BlobHeader {
        &self.header
    }

    /// Which build of the blob this is.
    pub(crate) fn build(&self) -> u64 {
        cormus_personality_image::BUILD
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
        region.write_bytes(REGION_BASE + VDSO_OFFSET, self.vdso)?;
        let code = self.header.read_only_end - REGION_BASE;
        let built_in = std::ptr::eq(self.image, cormus_personality_image::IMAGE);
        let file = (shared && built_in)
            .then(cormus_personality_image::image_file)
            .flatten();
        let Some((file, offset)) = file else {
            region.write_bytes(REGION_BASE, self.image)?;
            return region.protect_image(code);
        };
        let written = self.image.get(code as usize..).unwrap_or_default();
        region.write_bytes(REGION_BASE + code, written)?;
        region.map_image(file.as_fd(), offset, code)
    }

    /// A code address of the blob in words.
    pub(crate) fn describe(&self, address: u64) -> String {
        match cormus_personality_image::symbol(address) {
            Some((name, offset)) if self.place(address) != Place::Program => {
                format!("{name}+{offset:#x}")
            }
            _ => format!("{address:#x}"),
        }
    }
}

/// The blob's entry code knows the frame by this size.
const _: () = assert!(size_of::<area::Regs>() == 168);
