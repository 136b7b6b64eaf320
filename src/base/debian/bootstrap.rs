//! A Debian base from its packages: unpack (while they are downloaded), run the preinst scripts,
//! let dpkg configure everything.

use std::fs::File;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::archive::mirror::Mirror;
use crate::archive::{
    self, Action, Call, Check, Job, JobContext, Line, PackageSet, Reply, UnpackedPackages,
    arch_name, of_packages,
};
use crate::base::{Error, PinnedDebian, cannot};
use crate::event::Event;
use crate::sandbox::{Allowance, Exec, Mount, Network, Overlay, Owners, PolicyFile, ShownSecrets};
use crate::threads;

/// Runs each preinst as dpkg would: its control directory at `tmp.ci` (elsewhere debconf would not
/// know the owner of a template).
const PREINSTS: &str = r#"
cd /
for p do
    mv "/var/lib/dpkg/bake.ci/$p" /var/lib/dpkg/tmp.ci
    DPKG_MAINTSCRIPT_PACKAGE="${p%_*}" DPKG_MAINTSCRIPT_ARCH="${p##*_}" /var/lib/dpkg/tmp.ci/preinst install || {
        echo "preinst of ${p%_*} failed with status $?" >&2
        exit 1
    }
    rm -rf /var/lib/dpkg/tmp.ci
done
rm -rf /var/lib/dpkg/bake.ci
"#;

pub(in crate::base) fn build(
    pin: &PinnedDebian,
    epoch: i64,
    upper: &Path,
    work: &Path,
    jobs: &JobContext<'_>,
    output: &mut dyn FnMut(Line<'_>),
) -> Result<(), Error> {
    let done = unpack(pin, epoch, upper, jobs)?;
    configure(pin, epoch, upper, work, done.preinsts, jobs, output)
}

/// Downloads and unpacks at the same time.
fn unpack(
    pin: &PinnedDebian,
    epoch: i64,
    upper: &Path,
    jobs: &JobContext<'_>,
) -> Result<UnpackedPackages, Error> {
    let mirror = jobs.source.mirror(pin.mirror.as_deref(), &pin.suite);
    let set = PackageSet {
        root: jobs.inside(upper)?,
        packages: PathBuf::from("/packages/sha256"),
        set: pin.packages.clone(),
        arch: arch_name(&pin.arch)?.to_owned(),
        slim: pin.slim,
        epoch,
        threads: jobs.source.threads(),
        sources: super::sources(pin),
    };
    let total = pin.packages.len() as u64;
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|e| cannot("open a pipe for", upper)(e.into()))?;
    let call = Call::UnpackPackages { set, arrived: reader.into() };
    let job = Job {
        mounts: vec![Mount {
            from: jobs.source.cache().to_owned(),
            at: PathBuf::from("/packages"),
            read_only: true,
            owners: Owners::Image,
        }],
        ..Job::bare(Action::call(call))
    };
    let mut progress = |done| {
        (jobs.sink)(Event::Progress {
            task: "unpack",
            what: format!("Debian {}", pin.suite),
            done,
            total: Some(total),
            bytes: false,
        });
    };
    let (fetched, ended) = std::thread::scope(|scope| {
        let fetching = threads::scoped(scope, || fetch(pin, &mirror, File::from(writer), jobs))
            .map_err(cannot("start a thread for", upper))?;
        let ended = jobs.run("unpacking the base", job, &mut |_| {}, &mut progress);
        let fetched = fetching.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok::<_, Error>((fetched, ended))
    })?;
    (jobs.sink)(Event::ProgressEnd { task: "unpack" });
    // When a download fails the unpacking ends too, for want of packages: the download is the
    // reason.
    match fetched {
        Err(archive::Error::Cancelled) if !jobs.cancel.fired() => {}
        Err(error) => return Err(error.into()),
        Ok(()) => {}
    }
    match ended?.into_iter().next().flatten() {
        Some(Reply::Packages(unpacked)) => Ok(unpacked),
        other => Err(cannot("understand the unpacking of", upper)(io::Error::other(format!(
            "{other:?}"
        )))),
    }
}

fn fetch(
    pin: &PinnedDebian,
    mirror: &Mirror,
    mut pipe: File,
    jobs: &JobContext<'_>,
) -> Result<(), archive::Error> {
    jobs.source.packages(&pin.packages, mirror, &mut |index, _| {
        let place = u32::try_from(index).unwrap_or(u32::MAX).to_le_bytes();
        // Nobody reads any more: the unpacking has failed and says why itself.
        if pipe.write_all(&place).is_err() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })
}

fn configure(
    pin: &PinnedDebian,
    epoch: i64,
    upper: &Path,
    work: &Path,
    preinsts: Vec<String>,
    jobs: &JobContext<'_>,
    output: &mut dyn FnMut(Line<'_>),
) -> Result<(), Error> {
    let exec = |argv: Vec<String>, env| {
        Action::Exec(Exec {
            argv,
            env,
            cwd: PathBuf::from("/"),
            user: "0:0".to_owned(),
            timeout: None,
        })
    };
    let mut for_preinst = of_packages(epoch);
    let dpkg = pin
        .packages
        .iter()
        .find(|p| p.name == "dpkg")
        .map(|p| p.version.clone())
        .unwrap_or_default();
    for (name, value) in [
        ("DPKG_MAINTSCRIPT_NAME", "preinst"),
        ("DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT", "1"),
        ("DPKG_ADMINDIR", "/var/lib/dpkg"),
        ("DPKG_RUNNING_VERSION", &dpkg),
        ("DPKG_ROOT", ""),
        ("PERL_DL_NONLAZY", "1"),
    ] {
        for_preinst.insert(name.to_owned(), value.to_owned());
    }
    let script = ["/bin/sh", "-euc", PREINSTS, "preinsts"].map(str::to_owned);
    let check = Check {
        installed: pin.packages.iter().map(|p| (p.name.clone(), p.version.clone())).collect(),
        whole: true,
    };
    let job = Job {
        root: Some(Overlay { lower: vec![], upper: upper.to_owned(), work: work.to_owned() }),
        allowance: Allowance::default(),
        mounts: vec![],
        // libc6 sleeps a second to wait for an init that is not there, unless this says that we are
        // in a chroot.
        files: vec![PolicyFile {
            at: PathBuf::from("/usr/bin/ischroot"),
            bytes: b"#!/bin/sh\nexit 0\n".to_vec(),
            mode: 0o755,
        }],
        secrets: ShownSecrets::default(),
        hostname: "bake".to_owned(),
        network: Network::None,
        actions: vec![
            exec(script.into_iter().chain(preinsts).collect(), for_preinst),
            exec(["dpkg", "--configure", "-a"].map(str::to_owned).to_vec(), of_packages(epoch)),
            Action::call(Call::Finish(check)),
        ],
    };
    jobs.run("configuring the base", job, output, &mut |_| {})?;
    Ok(())
}
