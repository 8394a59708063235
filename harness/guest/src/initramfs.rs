//! The guest's root file system as an archive: Linux's initramfs in cpio's `newc` format
//! (kernel documentation, `driver-api/early-userspace/buffer-format`).
//!
//! Not compressed: an emulated processor unpacks it slower than it is read.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::agent::AGENT_VARIABLE;
use crate::error::Error;
use crate::executable;
use crate::guest::Config;
use crate::kit::{Kernel, Kit};
use crate::modules;

/// The most an archive may take in the guest's memory, in bytes; it is there twice for a moment.
const MAX_BYTES: usize = 1 << 30;

const DIRECTORY: u32 = 0o040_755;
const SYMBOLIC_LINK: u32 = 0o120_777;
const REGULAR: u32 = 0o100_000;

/// Builds the archive: the user's if there is one, the kit's root, programs, modules, drivers, the
/// config's files and folders, and `agent` as the first process.
pub(crate) fn build(
    kit: &Kit,
    kernel: &Kernel,
    config: &Config,
    agent: &Path,
) -> Result<Vec<u8>, Error> {
    let mut archive = Archive::default();
    if let Some(initrd) = &config.initrd {
        // The kernel unpacks one archive after the other, compressed or not, with zeros between;
        // later ones replace what earlier ones have.
        archive.bytes = fs::read(initrd).map_err(Error::io(initrd.display().to_string()))?;
        archive.pad();
    }
    archive.tree(&kit.root(), "")?;
    for program in &config.programs {
        archive.tree(&kit.program(program), "")?;
    }
    let modules_at = format!("usr/lib/modules/{}", kernel.release());
    archive.directories(&modules_at);
    // Where modprobe looks, for a user's archive whose /lib is not /usr/lib. Where it is, the kernel
    // leaves the folder as it is, which is not empty.
    archive.entry("lib/modules", SYMBOLIC_LINK, b"/usr/lib/modules");
    if let Some(folder) = kernel.modules() {
        for entry in list(folder)? {
            // The indexes that modprobe reads; anything else there is as large as it is unneeded.
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("modules.") {
                archive.copy(&entry.path(), &format!("{modules_at}/{name}"))?;
            }
        }
        for path in modules::closure(kernel, &config.modules)? {
            archive.copy(&folder.join(&path), &format!("{modules_at}/{path}"))?;
        }
    }
    for driver in &config.drivers {
        let file = kit.driver(kernel, driver);
        archive.copy(&file, &format!("{modules_at}/updates/{driver}.ko"))?;
    }
    for (at, content) in &config.files {
        archive.file(at, 0o644, content);
    }
    for (folder, at) in &config.trees {
        archive.directories(at);
        archive.tree(folder, at)?;
    }
    archive.agent(&kit.root().join("usr/bin/busybox"), agent)?;
    archive.finish()
}

fn list(folder: &Path) -> Result<Vec<fs::DirEntry>, Error> {
    let failed = || Error::io(folder.display().to_string());
    let entries: Result<Vec<_>, _> = fs::read_dir(folder).map_err(failed())?.collect();
    let mut entries = entries.map_err(failed())?;
    entries.sort_by_key(fs::DirEntry::file_name);
    Ok(entries)
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    folders: std::collections::BTreeSet<String>,
}

impl Archive {
    /// Adds the content of a folder of the host below `at`.
    fn tree(&mut self, folder: &Path, at: &str) -> Result<(), Error> {
        for entry in list(folder)? {
            let name = entry.file_name().to_string_lossy().into_owned();
            let at = if at.is_empty() { name } else { format!("{at}/{name}") };
            let path = entry.path();
            let kind = entry.file_type().map_err(Error::io(path.display().to_string()))?;
            if kind.is_symlink() {
                let target = fs::read_link(&path).map_err(Error::io(path.display().to_string()))?;
                self.entry(&at, SYMBOLIC_LINK, target.as_os_str().as_bytes());
            } else if kind.is_dir() {
                self.directories(&at);
                self.tree(&path, &at)?;
            } else if kind.is_file() {
                self.copy(&path, &at)?;
            }
        }
        Ok(())
    }

    /// Adds a file of the host, and the folders above it.
    fn copy(&mut self, from: &Path, at: &str) -> Result<(), Error> {
        let failed = || Error::io(from.display().to_string());
        let content = fs::read(from).map_err(failed())?;
        let mode = fs::metadata(from).map_err(failed())?.permissions().mode();
        self.file(at, mode & 0o777, &content);
        Ok(())
    }

    fn file(&mut self, at: &str, permissions: u32, content: &[u8]) {
        if let Some((folder, _)) = at.rsplit_once('/') {
            self.directories(folder);
        }
        self.entry(at, REGULAR | permissions, content);
    }

    /// Adds a folder and those above it, each once.
    fn directories(&mut self, at: &str) {
        if self.folders.contains(at) {
            return;
        }
        if let Some((above, _)) = at.rsplit_once('/') {
            self.directories(above);
        }
        self.folders.insert(at.to_owned());
        self.entry(at, DIRECTORY, &[]);
    }

    /// Adds the agent with its own loader and libraries, apart from the guest's, and `/init`.
    fn agent(&mut self, shell: &Path, program: &Path) -> Result<(), Error> {
        // A shell of its own, wherever a user's archive has its own.
        self.copy(shell, "agent/busybox")?;
        let executable = executable::read(program)?;
        self.file("agent/program", 0o755, &executable.program);
        for library in &executable.libraries {
            let name = library.file_name().unwrap_or_default().to_string_lossy();
            self.copy(library, &format!("agent/lib/{name}"))?;
        }
        let command = match &executable.loader {
            Some(loader) => {
                self.copy(loader, "agent/loader")?;
                "/agent/loader --library-path /agent/lib /agent/program"
            }
            None => "/agent/program",
        };
        let script = format!("#!/agent/busybox sh\nexport {AGENT_VARIABLE}=1\nexec {command}\n");
        self.file("init", 0o755, script.as_bytes());
        Ok(())
    }

    /// One entry: a header of 6 + 13 × 8 characters, the name, the content, each padded to 4.
    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let links = 1;
        // What does not fit is far beyond MAX_BYTES, which `finish` refuses.
        let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let name_bytes = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        // inode, mode, user, group, links, time, size, device ×2, special device ×2, name, sum
        let fields = [self.entries, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_bytes, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Result<Vec<u8>, Error> {
        self.entry("TRAILER!!!", 0, &[]);
        if self.bytes.len() > MAX_BYTES {
            let reason = format!("the guest's files take {} bytes, too many", self.bytes.len());
            return Err(Error::failed(reason));
        }
        Ok(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads an archive back: names, modes, contents.
    fn parse(bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        let mut at = 0;
        loop {
            assert_eq!(&bytes[at..at + 6], b"070701");
            let field = |n: usize| {
                let hex = &bytes[at + 6 + 8 * n..at + 14 + 8 * n];
                u32::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap()
            };
            let (mode, size, name_bytes) = (field(1), field(6) as usize, field(11) as usize);
            let name = &bytes[at + 110..at + 109 + name_bytes];
            let name = String::from_utf8(name.to_vec()).unwrap();
            let content = (at + 110 + name_bytes).next_multiple_of(4);
            at = (content + size).next_multiple_of(4);
            if name == "TRAILER!!!" {
                assert_eq!(at, bytes.len());
                return entries;
            }
            entries.push((name, mode, bytes[content..content + size].to_vec()));
        }
    }

    #[test]
    fn trees_keep_links_modes_and_contents() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        fs::write(folder.path().join("bin/tool"), b"12345").unwrap();
        fs::set_permissions(folder.path().join("bin/tool"), fs::Permissions::from_mode(0o755))
            .unwrap();
        std::os::unix::fs::symlink("bin", folder.path().join("sbin")).unwrap();
        let mut archive = Archive::default();
        archive.tree(folder.path(), "").unwrap();
        let expected = [
            ("bin".to_owned(), DIRECTORY, vec![]),
            ("bin/tool".to_owned(), REGULAR | 0o755, b"12345".to_vec()),
            ("sbin".to_owned(), SYMBOLIC_LINK, b"bin".to_vec()),
        ];
        assert_eq!(parse(&archive.finish().unwrap()), expected);
    }

    #[test]
    fn folders_come_before_what_is_in_them_and_once() {
        let mut archive = Archive::default();
        archive.file("a/b/c", 0o644, b"x");
        archive.file("a/b/d", 0o644, b"");
        let names: Vec<String> =
            parse(&archive.finish().unwrap()).into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, ["a", "a/b", "a/b/c", "a/b/d"]);
    }

    #[test]
    fn the_agent_is_the_first_process_with_its_own_libraries() {
        let mut archive = Archive::default();
        let program = std::env::current_exe().unwrap();
        archive.agent(&program, &program).unwrap();
        let entries = parse(&archive.finish().unwrap());
        let (_, mode, script) = entries.iter().find(|(name, ..)| name == "init").unwrap();
        assert_eq!(*mode, REGULAR | 0o755);
        assert!(
            script
                .starts_with(b"#!/agent/busybox sh\nexport UNDERSTUDY_GUEST_AGENT=1\nexec /agent/")
        );
        assert!(entries.iter().any(|(name, ..)| name == "agent/program"));
    }
}
