//! `cargo xtask setup`: what the tests need beyond Rust. Does nothing, quickly, when nothing is missing.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::shell::{self, Shell};

/// Programs that the tests run, and the Debian packages that bring them.
const PROGRAMS: &[(&str, &str)] = &[
    ("/usr/sbin/avahi-daemon", "avahi-daemon"),
    ("curl", "curl"),
    ("dbus-daemon", "dbus-daemon"),
    ("/usr/sbin/dnsmasq", "dnsmasq-base"),
    // The fuzz targets link libFuzzer, which is C++.
    ("g++", "g++"),
    ("gdbus", "libglib2.0-bin"),
    ("git", "git"),
    ("ip", "iproute2"),
    ("microsocks", "microsocks"),
    ("nft", "nftables"),
    ("nginx", "nginx-light"),
    ("ping", "iputils-ping"),
    ("tc", "iproute2"),
    ("tinyproxy", "tinyproxy-bin"),
    // Stand-ins for UPower and NetworkManager, and a clock that tests can move.
    ("/usr/bin/faketime", "faketime"),
    ("/usr/lib/python3/dist-packages/dbusmock", "python3-dbusmock"),
];

/// Cargo's own tools, none of which Debian packages. Built from source into `target/tools`; cargo-deny takes two and
/// a half minutes on two cores.
const CARGO_TOOLS: &[(&str, &str)] = &[("cargo-deny", "0.20.2"), ("cargo-nextest", "0.9.143")];

/// Installs what is missing.
pub(crate) fn run(shell: &Shell) -> Result<()> {
    install(shell, PROGRAMS)?;
    for (tool, version) in CARGO_TOOLS {
        cargo_tool(shell, tool, version)?;
    }
    Ok(())
}

/// Installs the packages of those programs (or files, by their whole path) that are not there.
pub(crate) fn install(shell: &Shell, programs: &[(&str, &'static str)]) -> Result<()> {
    let has = |program: &str| {
        if program.starts_with('/') { Path::new(program).exists() } else { shell.has(program) }
    };
    let missing = missing(programs, has);
    if missing.is_empty() {
        return Ok(());
    }
    let wanted = missing.join(" ");
    ensure!(shell.has("apt-get"), "missing, and no apt-get to install it: {wanted} (Debian's names)");
    let root = shell::output(&mut shell.command("id", ["-u"]))?.trim() == "0";
    let mut prefix = Vec::new();
    if !root {
        ensure!(shell.has("sudo"), "run this as root, there is no sudo here: apt-get install {wanted}");
        prefix.extend(["sudo", "--non-interactive"]);
    }
    println!("setup: installing {wanted}");
    prefix.extend(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet", "--quiet"]);
    let apt = |args: &[&str]| {
        let mut words = prefix.iter().chain(args);
        let program = words.next().context("no program")?;
        shell::run(&mut shell.command(program, words))
            .with_context(|| format!("could not install; do it by hand: apt-get install {wanted}"))
    };
    apt(&["update"])?;
    apt(&[&["install", "--yes", "--no-install-recommends"], missing.as_slice()].concat())
}

/// The packages of the programs that are not there, each once.
fn missing(programs: &[(&str, &'static str)], has: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let mut packages: Vec<_> =
        programs.iter().filter(|(program, _)| !has(program)).map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Builds a tool from the registry into `target/tools`, unless it is there.
pub(crate) fn cargo_tool(shell: &Shell, tool: &str, version: &str) -> Result<()> {
    // nextest comes with many machines and any recent one will do (.config/nextest.toml says how recent);
    // a cargo-deny of another version may read deny.toml differently.
    let pinned = tool == "cargo-deny";
    let installed =
        shell.has(tool).then(|| shell::output(&mut shell.command(tool, ["--version"]))).transpose();
    if installed.is_ok_and(|found| found.is_some_and(|found| !pinned || found.contains(version))) {
        return Ok(());
    }
    println!("setup: building {tool} {version}");
    let tools = shell.tools();
    let build = tools.join("build");
    let mut install = shell.cargo(["install", "--quiet", "--locked", tool, "--version", version, "--root"]);
    shell::run(install.arg(&tools).arg("--target-dir").arg(&build))?;
    std::fs::remove_dir_all(&build).with_context(|| format!("cannot remove {}", build.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_package_once() {
        assert_eq!(missing(PROGRAMS, |_| true), [""; 0]);
        assert_eq!(
            missing(PROGRAMS, |program| !["ip", "tc", "nginx"].contains(&program)),
            ["iproute2", "nginx-light"]
        );
    }
}
