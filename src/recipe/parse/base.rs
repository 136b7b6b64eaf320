//! Reads `[base]` and `[stage.NAME.base]`: what an image or a stage starts from.

use std::ops::Range;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use super::image::oci;
use super::reader::Reader;
use super::table::{entry, misspelt_table};
use crate::recipe::keys;
use crate::recipe::model::{Base, BaseKind, Debian, DebianVariant, Modes};
use crate::schema::{Field, Fields, Mistake};

/// Reads the base of the image.
pub(crate) fn of_image(reader: &mut Reader<'_>, table: &DeTable<'_>) -> Option<Base> {
    if entry(table, "base").is_none() && misspelt_table("base", table) {
        return None;
    }
    let place = entry(table, "image").map_or(0..0, |(key, _)| key);
    read(reader, table, place, "a recipe", "base")
}

/// Reads the base of a stage; `place`: where the stage's name stands.
pub(crate) fn of_stage(
    reader: &mut Reader<'_>,
    table: &DeTable<'_>,
    place: Range<usize>,
    name: &str,
) -> Option<Base> {
    read(reader, table, place, "a stage", &format!("stage.{name}.base"))
}

/// Reads the base in `table`. `whose` and `path` are for messages: who has no base, and how the
/// header is written.
fn read(
    reader: &mut Reader<'_>,
    table: &DeTable<'_>,
    place: Range<usize>,
    whose: &str,
    path: &str,
) -> Option<Base> {
    let Some((key, node)) = entry(table, "base") else {
        let mistake =
            Mistake::new(format!("{whose} without `[{path}]`")).label("what does it start from?");
        let help = format!(
            "add `[{path}]` with `debian = \"bookworm\"`, `scratch = true`, `path = \"…\"` or \
                `image = \"…\"`"
        );
        reader.report(place, mistake.help(help));
        return None;
    };
    let fields = reader.section(&keys::BASE, key.clone(), node)?;
    let DeValue::Table(entries) = node.get_ref() else { return None };
    let (kind, field) = one_kind(reader, &fields, entries, key)?;
    if kind != "debian" {
        for name in ["variant", "mirror", "components"] {
            if let Some(extra) = fields.get(name) {
                let mistake = Mistake::new(format!("`{name}` goes with `debian` only"))
                    .label(format!("this base is `{kind}`"));
                reader.report(extra.key.clone(), mistake);
            }
        }
    }
    if kind != "path"
        && let Some(extra) = fields.get("modes")
    {
        let mistake =
            Mistake::new("`modes` goes with `path` only").label(format!("this base is `{kind}`"));
        reader.report(extra.key.clone(), mistake);
    }
    if kind != "oci"
        && let Some(extra) = fields.get("named")
    {
        let mistake =
            Mistake::new("`named` goes with `oci` only").label(format!("this base is `{kind}`"));
        reader.report(extra.key.clone(), mistake);
    }
    let modes = match fields.text("modes").as_deref() {
        Some("kept") => Modes::Kept,
        _ => Modes::Checkout,
    };
    let line = reader.source.line(field.key.start);
    let kind = match kind {
        "scratch" => fields.boolean("scratch").map(|_| BaseKind::Scratch)?,
        "path" => BaseKind::Path(PathBuf::from(fields.text("path")?)),
        "image" => BaseKind::Image(fields.text("image")?.parse().ok()?),
        "oci" => BaseKind::Oci(oci(&fields)?),
        "recipe" => BaseKind::Recipe(PathBuf::from(fields.text("recipe")?)),
        "stage" => BaseKind::Stage(fields.text("stage")?),
        _ => BaseKind::Debian(debian(reader, &fields)?),
    };
    Some(Base { line, kind, modes })
}

/// Returns the kind that is given, and reports none and several.
fn one_kind<'f>(
    reader: &mut Reader<'_>,
    fields: &'f Fields,
    entries: &DeTable<'_>,
    key: Range<usize>,
) -> Option<(&'static str, &'f Field)> {
    let given: Vec<(&str, &Field)> = keys::BASES
        .iter()
        .filter_map(|kind| fields.get(kind).map(|field| (*kind, field)))
        .collect();
    match given.as_slice() {
        [] => {
            // Something that is not built yet, or misspelt, has been reported as such.
            let named = entries.keys().any(|k| keys::BASE.key(k.get_ref()).is_none());
            if !named {
                let mistake = Mistake::new("`[base]` says nothing to start from");
                let help = "write one of `debian = \"bookworm\"`, `scratch = true`, `path \
                    = \"…\"`, `image = \"…\"`, `oci = \"./…\"`, `recipe = \"…\"`, \
                    `stage = \"…\"`";
                reader.report(key, mistake.help(help));
            }
            None
        }
        [one] => Some(*one),
        [(first, _), (second, field), ..] => {
            let mistake = Mistake::new(format!(
                "a base has one kind, but this one is both `{first}` and `{second}`"
            ))
            .label("the second kind");
            reader.report(field.key.clone(), mistake);
            None
        }
    }
}

fn debian(reader: &mut Reader<'_>, fields: &Fields) -> Option<Debian> {
    if let Some(components) = fields.get("components")
        && fields.given_list("components").is_some_and(|list| list.is_empty())
    {
        reader.report(
            components.span.clone(),
            Mistake::new("no components").help("leave `components` out for `[\"main\"]`"),
        );
    }
    let variant = match fields.text("variant").as_deref() {
        Some("slim") => DebianVariant::Slim,
        _ => DebianVariant::Minbase,
    };
    Some(Debian {
        suite: fields.text("debian")?,
        variant,
        mirror: fields.text("mirror"),
        components: fields.given_list("components").unwrap_or_else(|| vec!["main".into()]),
    })
}
