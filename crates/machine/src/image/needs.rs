//! What of a host a machine at rest depends on: the processor's instructions, which its programs may have chosen by, and the kind
//! of KVM and processor, by which its registers are laid out.

use cormus_kvm::{Kind, Kvm};
use cormus_store::Description;
use std::fs::File;
use std::io::{BufRead, BufReader};

/// Bytes of `/proc/cpuinfo` that are read at a time: about one processor.
const CPUINFO_LEN: usize = 4096;

/// Instruction sets that programs look for, as `/proc/cpuinfo` names them. What only kernels use does not count.
const FEATURES: &[&str] = &[
    "sse4_1",
    "sse4_2",
    "ssse3",
    "pni",
    "sse4a",
    "popcnt",
    "abm",
    "movbe",
    "cx16",
    "lahf_lm",
    "3dnowprefetch",
    "aes",
    "pclmulqdq",
    "vaes",
    "vpclmulqdq",
    "gfni",
    "sha_ni",
    "sha512",
    "sm3",
    "sm4",
    "avx",
    "avx2",
    "avx_vnni",
    "avx_ifma",
    "avx_vnni_int8",
    "avx_ne_convert",
    "f16c",
    "fma",
    "fma4",
    "xop",
    "tbm",
    "bmi1",
    "bmi2",
    "adx",
    "erms",
    "fsrm",
    "rdrand",
    "rdseed",
    "rdpid",
    "rdtscp",
    "fsgsbase",
    "clflushopt",
    "clwb",
    "cldemote",
    "movdiri",
    "movdir64b",
    "serialize",
    "xsave",
    "xsaveopt",
    "xsavec",
    "xgetbv1",
    "rtm",
    "pku",
    "ospke",
    "avx512f",
    "avx512dq",
    "avx512ifma",
    "avx512cd",
    "avx512bw",
    "avx512vl",
    "avx512vbmi",
    "avx512_vbmi2",
    "avx512_vnni",
    "avx512_bitalg",
    "avx512_vpopcntdq",
    "avx512_bf16",
    "avx512_fp16",
    "avx512_vp2intersect",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "amx_fp16",
];

/// What this host offers.
#[derive(Debug)]
pub(super) struct Host {
    features: Vec<String>,
    facts: Vec<String>,
}

impl Host {
    /// Looks.
    ///
    /// # Errors
    /// When the host does not say.
    pub(super) fn look() -> std::io::Result<Host> {
        let cpuinfo = BufReader::with_capacity(CPUINFO_LEN, File::open("/proc/cpuinfo")?);
        Host::of(cpuinfo, Kvm::kind())
    }

    /// From what is said of the first processor: of the others the same is said, and a host that has hundreds takes long to say it.
    fn of(cpuinfo: impl BufRead, kind: Kind) -> std::io::Result<Host> {
        let first = cpuinfo
            .lines()
            .take_while(|line| !matches!(line, Ok(line) if line.is_empty()));
        let first = first.collect::<std::io::Result<Vec<String>>>()?;
        let field = |name: &str| {
            let mut lines = first.iter().filter_map(|line| line.split_once(':'));
            let found = lines.find(|(field, _)| field.trim() == name);
            found.map_or("", |(_, value)| value.trim())
        };
        let there: Vec<&str> = field("flags").split(' ').collect();
        let features = FEATURES.iter().filter(|name| there.contains(name));
        let kind = match kind {
            Kind::Pvm => "PVM",
            Kind::Hardware => "hardware",
        };
        Ok(Host {
            features: features.map(|name| (*name).to_owned()).collect(),
            facts: vec![
                format!("kind of KVM: {kind}"),
                format!("processors by {}", field("vendor_id")),
            ],
        })
    }

    /// Writes down what a machine that runs here depends on.
    pub(super) fn describe(self, description: &mut Description) {
        description.cpu_features = self.features;
        description.kernel_facts = self.facts;
    }

    /// What of a description is not here, in words.
    pub(super) fn lacks(&self, description: &Description) -> Vec<String> {
        let features = description.cpu_features.iter();
        let features = features.filter(|name| !self.features.contains(name));
        let facts = description.kernel_facts.iter();
        let facts = facts.filter(|fact| !self.facts.contains(fact));
        features
            .map(|name| format!("processor feature {name}"))
            .chain(facts.cloned())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(flags: &str, vendor: &str, kind: Kind) -> Host {
        let second = "processor\t: 1\nvendor_id\t: x\nflags\t\t: x\n\n";
        let cpuinfo =
            format!("processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: {flags}\n\n{second}");
        let mut left = cpuinfo.as_bytes();
        let host = Host::of(&mut left, kind).unwrap();
        assert_eq!(left, second.as_bytes());
        host
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut description = Description::default();
        host("fpu avx avx2 vmx", "AuthenticAMD", Kind::Pvm).describe(&mut description);
        assert_eq!(description.cpu_features, ["avx", "avx2"]);
        let check = |flags, vendor, kind, expect: &[&str]| {
            assert_eq!(host(flags, vendor, kind).lacks(&description), expect);
        };
        check("avx avx2", "AuthenticAMD", Kind::Pvm, &[]);
        check("avx avx2 avx512f", "AuthenticAMD", Kind::Pvm, &[]);
        check(
            "avx",
            "AuthenticAMD",
            Kind::Pvm,
            &["processor feature avx2"],
        );
        check(
            "avx avx2",
            "AuthenticAMD",
            Kind::Hardware,
            &["kind of KVM: PVM"],
        );
        check(
            "avx avx2",
            "GenuineIntel",
            Kind::Pvm,
            &["processors by AuthenticAMD"],
        );
    }

    #[test]
    fn this_host_has_what_it_has() {
        let mut description = Description::default();
        Host::look().unwrap().describe(&mut description);
        assert!(!description.cpu_features.is_empty());
        assert_eq!(Host::look().unwrap().lacks(&description), [""; 0]);
    }
}
