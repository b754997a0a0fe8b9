//! Images as users build them, by `deploy/images/build.sh`. Their base is made of Debian's packages, the programs are those
//! that cargo built beside this one, and no registry is asked for anything.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use notrack_lab::{built, require_root, require_tools, run_ok};
use serde_json::Value;
use tempfile::TempDir;

use crate::images::{CLI, PROGRAMS, TAG, strip};
use crate::testbed::repository;

/// By the programs' names.
fn images() -> impl Iterator<Item = &'static str> {
    PROGRAMS.into_iter().chain([CLI])
}

const BASE: &str = "localhost/notrack-debian:test";

/// A storage of buildah's own with the base in it. Dropping it removes all images, mounts and containers.
#[derive(Debug)]
pub struct Buildah {
    folder: TempDir,
}

/// An image that was built.
#[derive(Debug)]
pub struct Built {
    /// The archive that nodes import.
    pub archive: PathBuf,
    /// Its configuration.
    pub config: Value,
    /// What it says that it holds.
    pub sbom: Value,
    /// A container of it, by name.
    pub container: String,
    /// The container's files.
    pub root: PathBuf,
}

impl Buildah {
    /// Makes the storage, the base and the folder of programs.
    pub fn new() -> Result<Buildah> {
        require_root()?;
        require_tools(&["buildah", "mmdebstrap", "python3"])?;
        let buildah = Buildah { folder: tempfile::tempdir()? };
        let place = |name: &str| buildah.folder.path().join(name);
        // vfs: plain folders. Overlays cannot lie on overlays, which is what a test machine's root may be.
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = {:?}\nrunroot = {:?}\n",
            place("storage"),
            place("run")
        );
        fs::write(place("storage.conf"), storage)?;
        let debian = run_ok(&mut Command::new(repository().join("tests/tools/debian.sh")))?;
        let container = buildah.buildah(&["from", "scratch"])?;
        buildah.buildah(&["add", "--quiet", &container, debian.trim(), "/"])?;
        buildah.buildah(&["commit", "--quiet", "--rm", &container, BASE])?;

        fs::create_dir(place("programs"))?;
        for program in images() {
            strip(&built(program)?, &place("programs"))?;
            let licences =
                run_ok(buildah.command(repository().join("deploy/images/licences.sh")).arg(program))?;
            fs::write(place("programs").join(format!("{program}.licences")), licences)?;
        }
        Ok(buildah)
    }

    /// Builds all images anew, and returns them by program.
    pub fn build(&self, label: &str) -> Result<BTreeMap<&'static str, Built>> {
        let out = self.folder.path().join(label);
        let mut build = self.command(repository().join("deploy/images/build.sh"));
        build.args(["--network", "none"]).env("OUT", &out).env("DEBIAN_IMAGE", BASE);
        // No layers: each would be a copy of the whole base.
        build.env("PROGRAMS", self.folder.path().join("programs")).env("BUILDAH_LAYERS", "false");
        run_ok(&mut build)?;
        images().map(|program| Ok((program, self.built(&out, program)?))).collect()
    }

    fn built(&self, out: &Path, program: &str) -> Result<Built> {
        let image = format!("localhost/{program}:{TAG}");
        let config = self.buildah(&["inspect", "--type", "image", "--format", "{{.Config}}", &image])?;
        let container = self.buildah(&["from", "--pull-never", &image])?;
        let root = self.buildah(&["mount", &container])?.into();
        Ok(Built {
            archive: out.join(format!("{program}-{TAG}.tar")),
            config: serde_json::from_str(&config).context("the image's configuration")?,
            sbom: serde_json::from_slice(&fs::read(out.join(format!("{program}-{TAG}.spdx.json")))?)?,
            container,
            root,
        })
    }

    /// Runs words in a container.
    pub fn run(&self, container: &str, words: &[&str]) -> Result<String> {
        self.buildah(&[&["run", container, "--"], words].concat())
    }

    fn buildah(&self, arguments: &[&str]) -> Result<String> {
        Ok(run_ok(self.command("buildah").args(arguments))?.trim().to_owned())
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(repository());
        command.env("CONTAINERS_STORAGE_CONF", self.folder.path().join("storage.conf"));
        // A change of root alone: test machines have neither a container runtime nor rights over cgroups.
        command.env("BUILDAH_ISOLATION", "chroot");
        command
    }
}

impl Drop for Buildah {
    fn drop(&mut self) {
        let _ = self.buildah(&["rm", "--all"]);
    }
}
