//! What `ci/prepare` made: a QEMU, kernels, the guest's root file system, and more programs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Names the folder, in place of [`DEFAULT_FOLDER`]; `ci/prepare` heeds it too.
pub const FOLDER_VARIABLE: &str = "UNDERSTUDY_GUEST_DIR";

/// Where `ci/prepare` puts the files, below the repository's root.
pub const DEFAULT_FOLDER: &str = "target/guest";

/// Programs that a guest can have besides its root file system, each with its libraries:
/// iproute2's `ip`, and DPDK's `dpdk-test` with drivers for QAT.
const PROGRAMS: [&str; 2] = ["ip", "dpdk-test"];

/// Programs and drivers that only `ci/prepare --qaic` makes.
const QAIC: &str = "qaic";

/// A folder that `ci/prepare` has filled.
#[derive(Clone, Debug)]
pub struct Kit {
    folder: PathBuf,
    kernels: Vec<Kernel>,
}

/// A kernel with its modules: a stock one of the kit, or a user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    image: PathBuf,
    /// The folder that is `/lib/modules/RELEASE` in the guest, if there are modules.
    modules: Option<PathBuf>,
    suite: String,
    release: String,
}

impl Kit {
    /// Opens the folder that [`FOLDER_VARIABLE`] names, else [`DEFAULT_FOLDER`] in the working
    /// directory.
    ///
    /// # Errors
    /// [`Error::NotPrepared`], as for [`Kit::open`].
    pub fn find() -> Result<Self, Error> {
        match std::env::var_os(FOLDER_VARIABLE) {
            Some(folder) => Self::open(Path::new(&folder)),
            None => Self::open(Path::new(DEFAULT_FOLDER)),
        }
    }

    /// Opens a prepared folder.
    ///
    /// # Errors
    /// [`Error::NotPrepared`] if a part is missing, [`Error::Io`] if one cannot be read.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let kit = Self { folder: folder.to_owned(), kernels: read_kernels(folder)? };
        let missing = |missing| Error::NotPrepared { folder: folder.to_owned(), missing };
        if !kit.qemu().is_file() {
            return Err(missing("QEMU"));
        }
        if !kit.root().join("usr/bin/busybox").is_file() {
            return Err(missing("root file system"));
        }
        if kit.kernels.is_empty() {
            return Err(missing("kernels"));
        }
        if !PROGRAMS.iter().all(|program| kit.program(program).is_dir()) {
            return Err(missing("programs"));
        }
        Ok(kit)
    }

    /// Whether the driver of the Cloud AI 100 is there for each kernel, and what runs networks.
    pub fn has_qaic(&self) -> bool {
        self.kernels.iter().all(|kernel| self.driver(kernel, QAIC).is_file())
            && self.program(crate::qaic::PROGRAM).is_dir()
    }

    /// Every prepared kernel, oldest release first.
    pub fn kernels(&self) -> &[Kernel] {
        &self.kernels
    }

    /// The kernels a user means by `name`: `all`, a suite (`trixie`), a version (`6.12`), or a
    /// whole release.
    ///
    /// # Errors
    /// [`Error::UnknownKernel`] if there is none.
    pub fn select(&self, name: &str) -> Result<Vec<&Kernel>, Error> {
        let matches = |kernel: &&Kernel| {
            name == "all" || name == kernel.suite || is_version_of(name, &kernel.release)
        };
        let found: Vec<&Kernel> = self.kernels.iter().filter(matches).collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let prepared: Vec<&str> = self.kernels.iter().map(Kernel::release).collect();
        Err(Error::UnknownKernel { wanted: name.to_owned(), prepared: prepared.join(", ") })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// QEMU's executable.
    pub fn qemu(&self) -> PathBuf {
        self.folder.join("qemu/bin/qemu-system-x86_64")
    }

    /// The tree that becomes the guest's root file system.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// A driver that the kernel's package lacks.
    pub(crate) fn driver(&self, kernel: &Kernel, name: &str) -> PathBuf {
        self.folder.join(name).join(&kernel.suite).join(format!("{name}.ko"))
    }

    /// The tree of one of the programs that guests can have besides.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join("programs").join(name)
    }
}

impl Kernel {
    /// A user's kernel: a bzImage, and its folder of modules (`/lib/modules/RELEASE`) if it has some.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::Failed`] if it is no bzImage.
    pub fn of_user(image: &Path, modules: Option<&Path>) -> Result<Self, Error> {
        let bytes = fs::read(image).map_err(Error::io(image.display().to_string()))?;
        let release = release_of(&bytes).ok_or_else(|| {
            Error::failed(format!("{} is no kernel image (bzImage)", image.display()))
        })?;
        let (image, modules) = (image.to_owned(), modules.map(Path::to_owned));
        Ok(Self { image, modules, suite: "user".to_owned(), release })
    }

    /// The Debian suite the kernel came from; `user` for a user's own.
    pub fn suite(&self) -> &str {
        &self.suite
    }

    /// The release, as `uname -r` prints it.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// The first two numbers of the release.
    pub fn version(&self) -> (u32, u32) {
        let numbers = numbers(&self.release);
        let number = |index: usize| numbers.get(index).copied().unwrap_or_default();
        (number(0), number(1))
    }

    pub(crate) fn image(&self) -> &Path {
        &self.image
    }

    /// The folder that is `/lib/modules/RELEASE` in the guest.
    pub(crate) fn modules(&self) -> Option<&Path> {
        self.modules.as_deref()
    }
}

/// The release that a bzImage says it is (kernel documentation, `arch/x86/boot.rst`,
/// `kernel_version`).
fn release_of(image: &[u8]) -> Option<String> {
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let at = u16::from_le_bytes(image.get(0x20e..0x210)?.try_into().ok()?);
    let text = image.get(usize::from(at) + 0x200..)?;
    let end = text.iter().take(256).position(|byte| matches!(byte, 0 | b' '))?;
    String::from_utf8(text.get(..end)?.to_vec()).ok().filter(|release| !release.is_empty())
}

/// Whether `version` is a release, or a beginning of it that ends where a number does.
fn is_version_of(version: &str, release: &str) -> bool {
    let rest = release.strip_prefix(version);
    !version.is_empty() && rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn read_kernels(folder: &Path) -> Result<Vec<Kernel>, Error> {
    let folder = folder.join("kernels");
    let Ok(entries) = fs::read_dir(&folder) else { return Ok(Vec::new()) };
    let mut kernels = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io(folder.display().to_string()))?;
        let stamp = entry.path().join("release");
        let release = fs::read_to_string(&stamp).map_err(Error::io(stamp.display().to_string()))?;
        kernels.push(Kernel {
            image: entry.path().join("vmlinuz"),
            modules: Some(entry.path().join("modules")),
            suite: entry.file_name().to_string_lossy().into_owned(),
            release: release.trim().to_owned(),
        });
    }
    kernels.sort_by_cached_key(|kernel| numbers(&kernel.release));
    Ok(kernels)
}

/// The numbers in a release, so that 6.12 sorts after 6.9.
fn numbers(release: &str) -> Vec<u32> {
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(releases: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in ["qemu/bin/qemu-system-x86_64", "root/usr/bin/busybox"] {
            let file = folder.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        for program in PROGRAMS {
            fs::create_dir_all(folder.path().join("programs").join(program)).unwrap();
        }
        for (suite, release) in releases {
            let kernel = folder.path().join("kernels").join(suite);
            fs::create_dir_all(&kernel).unwrap();
            fs::write(kernel.join("release"), format!("{release}\n")).unwrap();
        }
        folder
    }

    #[test]
    fn kernels_are_named_by_suite_version_or_release() {
        let folder = prepared(&[("newer", "7.3.4+x"), ("older", "6.12.117+x"), ("old", "6.9.1")]);
        let kit = Kit::open(folder.path()).unwrap();
        let select = |name: &str| -> Vec<String> {
            kit.select(name).unwrap().iter().map(|k| k.release().to_owned()).collect()
        };
        assert_eq!(kit.select("older").unwrap()[0].version(), (6, 12));
        assert_eq!(select("all"), ["6.9.1", "6.12.117+x", "7.3.4+x"]);
        assert_eq!(select("older"), ["6.12.117+x"]);
        assert_eq!(select("7.3"), ["7.3.4+x"]);
        assert_eq!(select("6"), ["6.9.1", "6.12.117+x"]);
        assert_eq!(select("6.12.117+x"), ["6.12.117+x"]);
        for unknown in ["6.1", "7.3.40", "", "none"] {
            let error = kit.select(unknown).unwrap_err();
            assert!(matches!(error, Error::UnknownKernel { .. }), "{unknown}: {error}");
        }
    }

    #[test]
    fn a_users_kernel_says_its_release() {
        let mut image = vec![0; 0x400];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        image[0x300..0x310].copy_from_slice(b"6.9.1-mine (me@h");
        assert_eq!(release_of(&image).as_deref(), Some("6.9.1-mine"));
        assert_eq!(release_of(&image[..0x204]), None);
        image[0x202] = 0;
        assert_eq!(release_of(&image), None);
    }

    #[test]
    fn an_unprepared_folder_says_what_to_run() {
        let folder = prepared(&[]);
        let error = Kit::open(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("has no kernels: run ci/prepare"), "{error}");
        let folder = prepared(&[("suite", "6.12.1")]);
        fs::remove_dir(folder.path().join("programs/ip")).unwrap();
        let error = Kit::open(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("has no programs: run ci/prepare"), "{error}");
        let error = Kit::open(&folder.path().join("absent")).unwrap_err().to_string();
        assert!(error.ends_with("has no QEMU: run ci/prepare"), "{error}");
    }
}
