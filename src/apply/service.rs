//! systemd units enabled, disabled and masked by the symlinks that systemctl would make; no tool of
//! the image is needed.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::error::Error;
use super::root::Root;
use super::spot::Found;
use super::unit::{Install, Name, install};
use crate::step::ServiceState;
use crate::suggest::{alike, near};

/// Where systemd looks, first to last; `/run` is not part of an image.
pub(super) const DIRECTORIES: [&str; 4] = [
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
pub(super) const OURS: &str = DIRECTORIES[0];
const NOWHERE: &str = "/dev/null";
pub(super) const MAX_UNIT: u64 = 1 << 20;
const MAX_ALIASES: usize = 8;
pub(super) const DEPENDENCIES: [&str; 3] = ["wants", "requires", "upholds"];

/// Brings each of `units` to `state`.
pub(super) fn set(root: &Root, units: &[String], state: ServiceState) -> Result<(), Error> {
    for unit in units {
        let name =
            Name::parse(unit).ok_or_else(|| Error::refused(what(unit), "is not a unit name"))?;
        let unit = find(root, &name)?.ok_or_else(|| missing(root, &name))?;
        match state {
            ServiceState::Enabled => enable(root, unit, &mut BTreeSet::new(), true)?,
            ServiceState::Disabled => disable(root, &unit, &mut BTreeSet::new())?,
            ServiceState::Masked => mask(root, &unit)?,
        }
    }
    Ok(())
}

fn what(unit: &str) -> String {
    format!("service \"{unit}\"")
}

/// A unit of the image.
pub(super) struct Unit {
    pub(super) name: Name,
    /// Its file: for an instance, mostly the template's.
    pub(super) file: PathBuf,
    pub(super) install: Install,
    /// Its own name leads to `/dev/null`.
    pub(super) masked: bool,
}

/// Looks the unit up; an alias leads to the unit it stands for.
pub(super) fn find(root: &Root, name: &Name) -> Result<Option<Unit>, Error> {
    find_by(root, name, 0)
}

fn find_by(root: &Root, name: &Name, depth: usize) -> Result<Option<Unit>, Error> {
    let mut masked = false;
    for file_name in
        std::iter::once(name.full()).chain(name.template().filter(|_| !name.is_template()))
    {
        for directory in DIRECTORIES {
            let path = Path::new(directory).join(&file_name);
            let Some(spot) = root.spot(&path)? else { continue };
            let Some(found) = root.look(&spot)? else { continue };
            if found.kind == FileType::Symlink {
                let target = root.read_link(&spot)?;
                if target == NOWHERE {
                    masked = true;
                    continue;
                }
                // A symlink to a file of another name is an alias; one of the same name only says
                // where the unit is.
                let target_name =
                    Path::new(&target).file_name().and_then(OsStr::to_str).unwrap_or("");
                if target_name != file_name
                    && depth < MAX_ALIASES
                    && let Some(real) = Name::parse(target_name)
                {
                    let real = match (&name.instance, real.is_template()) {
                        (Some(instance), true) => Name { instance: Some(instance.clone()), ..real },
                        _ => real,
                    };
                    return find_by(root, &real, depth + 1);
                }
            }
            let Some(bytes) = root.read(&path, MAX_UNIT)? else { continue };
            let install = install(&String::from_utf8_lossy(&bytes));
            return Ok(Some(Unit { name: name.clone(), file: path, install, masked }));
        }
    }
    Ok(None)
}

fn missing(root: &Root, name: &Name) -> Error {
    let full = name.full();
    if !DIRECTORIES.iter().any(|f| root.is_directory(Path::new(f))) {
        return Error::refused(
            what(&full),
            "the image has no systemd units; a `packages` step that brings the service must stand \
                before this one",
        );
    }
    let stem = full.strip_suffix(".service").unwrap_or(&full);
    if matches!(
        root.look_at(&Path::new("/etc/init.d").join(stem)),
        Ok(Some(Found { kind: FileType::RegularFile, .. }))
    ) {
        let why = format!(
            "is only an init script, /etc/init.d/{stem}; use run = \"update-rc.d {stem} enable\""
        );
        return Error::refused(what(&full), why);
    }
    let mut known = BTreeSet::new();
    for directory in DIRECTORIES {
        known.extend(
            root.names(Path::new(directory))
                .unwrap_or_default()
                .into_iter()
                .filter_map(|n| n.into_string().ok()),
        );
    }
    let units = known
        .iter()
        .filter(|n| Name::parse(n).is_some_and(|p| p.full() == **n))
        .map(String::as_str);
    let near = near(&alike(&full, units));
    Error::refused(
        what(&full),
        format!(
            "the image has no such unit{near}; a `packages` step that brings it must stand before \
                this one"
        ),
    )
}

fn enable(root: &Root, unit: Unit, seen: &mut BTreeSet<String>, asked: bool) -> Result<(), Error> {
    let mut name = unit.name.clone();
    if name.is_template() {
        match &unit.install.default_instance {
            Some(instance) => name.instance = name.expand(instance),
            None if !asked => return Ok(()),
            None => {
                let why = format!(
                    "is a template; write an instance, such as \"{}@NAME.{}\"",
                    name.prefix, name.kind
                );
                return Err(Error::refused(what(&name.full()), why));
            }
        }
    }
    let full = name.full();
    if !seen.insert(full.clone()) {
        return Ok(());
    }
    if unit.install.is_empty() && asked {
        let why = "has no [Install] section and cannot be enabled: other units start it, or it is \
            started by hand";
        return Err(Error::refused(what(&full), why));
    }
    if unit.masked {
        unmask(root, &unit.name)?;
    }
    let expand = |text: &str| {
        name.expand(text).ok_or_else(|| {
            Error::refused(
                what(&full),
                format!("its [Install] section has \"{text}\", which bake cannot read"),
            )
        })
    };
    let lists = [&unit.install.wanted_by, &unit.install.required_by, &unit.install.upheld_by];
    for (kind, list) in DEPENDENCIES.iter().zip(lists) {
        for target in list {
            let target = expand(target)?;
            let mut target = Name::parse(&target).ok_or_else(|| {
                Error::refused(what(&full), format!("is wanted by \"{target}\", no unit name"))
            })?;
            if target.is_template() {
                target.instance =
                    name.instance.clone().filter(|i| !i.is_empty()).or(target.instance);
            }
            link(
                root,
                &Path::new(OURS).join(format!("{}.{kind}", target.full())).join(&full),
                &unit.file,
            )?;
        }
    }
    for alias in &unit.install.alias {
        let alias = expand(alias)?;
        let alias = Name::parse(&alias).filter(|a| a.kind == name.kind).ok_or_else(|| {
            Error::refused(what(&full), format!("its alias \"{alias}\" is not a name of its kind"))
        })?;
        if alias != name {
            link(root, &Path::new(OURS).join(alias.full()), &unit.file)?;
        }
    }
    for also in &unit.install.also {
        // As for systemctl, units named here may be missing.
        if let Some(also) = Name::parse(&expand(also)?)
            && let Some(also) = find(root, &also)?
        {
            enable(root, also, seen, false)?;
        }
    }
    Ok(())
}

/// Makes the symlink `path` to the unit file, unless there is one that leads to it by another way
/// (`/lib` for `/usr/lib`).
fn link(root: &Root, path: &Path, file: &Path) -> Result<(), Error> {
    let spot = root.make_spot(path)?;
    match root.look(&spot)? {
        Some(found) if found.kind == FileType::Symlink => {
            let real = |path: &Path| -> Result<Option<(u64, u64)>, Error> {
                let Some(spot) = root.final_spot(path)? else { return Ok(None) };
                let Some(file) = root.open_file(&spot).ok().flatten() else { return Ok(None) };
                let meta = file.metadata().map_err(Error::system("look at", path))?;
                Ok(Some((
                    std::os::unix::fs::MetadataExt::dev(&meta),
                    std::os::unix::fs::MetadataExt::ino(&meta),
                )))
            };
            if real(path)?.is_some_and(|there| real(file).is_ok_and(|wanted| wanted == Some(there)))
            {
                return Ok(());
            }
        }
        Some(_) => {
            return Err(Error::in_the_way(
                path,
                "is not a symlink; remove it in a `remove` step first",
            ));
        }
        None => {}
    }
    root.put_link(&spot, file.as_os_str(), root.own())
}

fn disable(root: &Root, unit: &Unit, seen: &mut BTreeSet<String>) -> Result<(), Error> {
    let full = unit.name.full();
    if !seen.insert(full.clone()) {
        return Ok(());
    }
    // Disabling a template disables its instances.
    let is_ours = |name: &OsStr| {
        let Some(name) = name.to_str() else { return false };
        name == full
            || (unit.name.is_template()
                && Name::parse(name).and_then(|n| n.template()).as_deref() == Some(&full))
    };
    for name in root.names(Path::new(OURS))? {
        let path = Path::new(OURS).join(&name);
        let directory = name
            .to_str()
            .is_some_and(|n| DEPENDENCIES.iter().any(|d| n.ends_with(&format!(".{d}"))));
        if !directory {
            unlink_if(root, &path, |target| Path::new(target).file_name().is_some_and(is_ours))?;
            continue;
        }
        for name in root.names(&path)? {
            let by_name = is_ours(&name);
            unlink_if(root, &path.join(&name), |target| {
                by_name || Path::new(target).file_name().is_some_and(is_ours)
            })?;
        }
        if root.names(&path)?.is_empty()
            && let Some(spot) = root.spot(&path)?
            && matches!(root.look(&spot)?, Some(Found { kind: FileType::Directory, .. }))
        {
            root.unlink_directory(&spot)?;
        }
    }
    for also in &unit.install.also {
        if let Some(also) = unit.name.expand(also).as_deref().and_then(Name::parse)
            && let Some(also) = find(root, &also)?
        {
            disable(root, &also, seen)?;
        }
    }
    Ok(())
}

/// Removes the symlink `path` if its target is `wanted`.
fn unlink_if(root: &Root, path: &Path, wanted: impl Fn(&OsStr) -> bool) -> Result<(), Error> {
    let Some(spot) = root.spot(path)? else { return Ok(()) };
    if let Some(Found { kind: FileType::Symlink, .. }) = root.look(&spot)?
        && wanted(&root.read_link(&spot)?)
    {
        root.unlink(&spot)?;
    }
    Ok(())
}

fn mask(root: &Root, unit: &Unit) -> Result<(), Error> {
    let path = Path::new(OURS).join(unit.name.full());
    let spot = root.make_spot(&path)?;
    match root.look(&spot)? {
        Some(found) if found.kind != FileType::Symlink => {
            let why = "is a unit file of the image's own, and a mask would take its place; remove \
                it in a `remove` step instead";
            Err(Error::in_the_way(&path, why))
        }
        _ => root.put_link(&spot, NOWHERE.as_ref(), root.own()),
    }
}

pub(super) fn unmask(root: &Root, name: &Name) -> Result<(), Error> {
    unlink_if(root, &Path::new(OURS).join(name.full()), |target| target == NOWHERE)?;
    for directory in &DIRECTORIES[1..] {
        let path = Path::new(directory).join(name.full());
        if let Some(spot) = root.spot(&path)?
            && let Some(Found { kind: FileType::Symlink, .. }) = root.look(&spot)?
            && root.read_link(&spot)? == NOWHERE
        {
            return Err(Error::refused(
                what(&name.full()),
                format!("is masked by the image's package ({})", path.display()),
            ));
        }
    }
    Ok(())
}
