//! Which of a kernel's modules a guest needs: those asked for, and what they depend on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::error::Error;
use crate::kit::Kernel;

/// The paths below the kernel's module folder that `wanted` come to.
///
/// A wanted item is a module's name, or a folder ending in `/` (`kernel/crypto/`) for all in it.
pub(crate) fn closure(kernel: &Kernel, wanted: &[String]) -> Result<BTreeSet<String>, Error> {
    let Some(folder) = kernel.modules() else { return Ok(BTreeSet::new()) };
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).map_err(Error::io(path.display().to_string()))
    };
    let (dependencies, built_in) = (read("modules.dep")?, read("modules.builtin")?);
    resolve(&dependencies, &built_in, wanted).map_err(|module| Error::UnknownModule {
        release: kernel.release().to_owned(),
        module: module.to_owned(),
    })
}

/// As [`closure`]; the error is the item that is not there.
fn resolve<'a>(
    dependencies: &str,
    built_in: &str,
    wanted: &'a [String],
) -> Result<BTreeSet<String>, &'a str> {
    // Each line is `path: path path...`, with dependencies of dependencies spelled out.
    let lines = dependencies.lines().filter_map(|line| line.split_once(':'));
    let by_path: BTreeMap<&str, &str> = lines.collect();
    let by_name: BTreeMap<String, &str> = by_path.keys().map(|path| (name(path), *path)).collect();
    let built_in: BTreeSet<String> = built_in.lines().map(name).collect();
    let mut needed = BTreeSet::new();
    for item in wanted {
        let roots: Vec<&str> = match by_name.get(&name(item)) {
            _ if item.ends_with('/') => {
                by_path.keys().copied().filter(|path| path.starts_with(&**item)).collect()
            }
            Some(path) => vec![path],
            None if built_in.contains(&name(item)) => continue,
            None => Vec::new(),
        };
        if roots.is_empty() {
            return Err(item);
        }
        for root in roots {
            needed.insert(root.to_owned());
            let others = by_path.get(root).copied().unwrap_or_default();
            needed.extend(others.split_whitespace().map(str::to_owned));
        }
    }
    Ok(needed)
}

/// A module's name from its path: no folder, no `.ko` or what follows, `_` for `-`.
fn name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDENCIES: &str = "kernel/crypto/cbc.ko.xz:\n\
        kernel/crypto/crypto_engine.ko.xz:\n\
        kernel/crypto/algif-hash.ko.xz: kernel/crypto/af_alg.ko.xz\n\
        kernel/crypto/af_alg.ko.xz:\n\
        kernel/drivers/crypto/virtio/virtio_crypto.ko.xz: kernel/crypto/crypto_engine.ko.xz\n";
    const BUILT_IN: &str = "kernel/drivers/virtio/virtio_pci.ko\n";

    fn resolved(wanted: &[&str]) -> Result<Vec<String>, String> {
        let wanted: Vec<String> = wanted.iter().map(|&s| s.to_owned()).collect();
        resolve(DEPENDENCIES, BUILT_IN, &wanted)
            .map(|paths| paths.into_iter().map(|path| name(&path)).collect())
            .map_err(str::to_owned)
    }

    #[test]
    fn a_module_brings_what_it_depends_on() {
        assert_eq!(resolved(&["virtio_crypto"]).unwrap(), ["crypto_engine", "virtio_crypto"]);
        assert_eq!(resolved(&["algif_hash"]).unwrap(), ["af_alg", "algif_hash"]);
    }

    #[test]
    fn a_folder_brings_all_in_it() {
        let names = resolved(&["kernel/crypto/"]).unwrap();
        assert_eq!(names, ["af_alg", "algif_hash", "cbc", "crypto_engine"]);
    }

    #[test]
    fn what_is_built_in_needs_no_file_and_what_is_not_there_is_an_error() {
        assert_eq!(resolved(&["virtio-pci"]).unwrap(), [""; 0]);
        assert_eq!(resolved(&["cbc", "no_such"]).unwrap_err(), "no_such");
        assert_eq!(resolved(&["kernel/none/"]).unwrap_err(), "kernel/none/");
    }
}
