//! Images that steps take files from: each is a stage without steps, of a name that no stage of a
//! recipe can have, since it has a space in it.

use std::ops::Range;

use super::reader::Reader;
use crate::recipe::model::{Base, BaseKind, Modes, Oci, Stage};
use crate::schema::{Field, Fields, Mistake};

/// Returns the image that `oci` and `named` mean.
pub(crate) fn oci(fields: &Fields) -> Option<Oci> {
    let named = match fields.get("named") {
        Some(_) => Some(fields.text("named")?),
        None => None,
    };
    Oci::new(fields.text("oci")?, named)
}

impl Reader<'_> {
    /// Takes note of the image that a table names with `image` or `oci`; returns the name of the
    /// stage that stands for it. `place`: where the table is.
    pub(crate) fn image_as_stage(
        &mut self,
        fields: &Fields,
        place: Range<usize>,
    ) -> Option<String> {
        let kinds = ["from", "image", "oci"];
        let given: Vec<(&str, &Field)> =
            kinds.iter().filter_map(|kind| Some((*kind, fields.get(kind)?))).collect();
        let kind = match given[..] {
            [(kind, _)] => kind,
            [] => {
                let mistake = Mistake::new("it does not say what the files are taken from")
                    .help("write the name of a stage, `image = \"…\"` or `oci = \"./…\"`");
                self.report(place, mistake);
                return None;
            }
            [(first, _), (second, field), ..] => {
                let what = format!("one thing is taken from, but this is `{first}` and `{second}`");
                self.report(field.key.clone(), Mistake::new(what));
                return None;
            }
        };
        if kind != "oci"
            && let Some(extra) = fields.get("named")
        {
            let mistake =
                Mistake::new("`named` goes with `oci` only").label(format!("this is `{kind}`"));
            self.report(extra.key.clone(), mistake);
            return None;
        }
        let (name, kind) = match kind {
            "image" => {
                let image = fields.text("image")?;
                (format!("image {image}"), BaseKind::Image(image.parse().ok()?))
            }
            "oci" => {
                let oci = oci(fields)?;
                (format!("oci {oci}"), BaseKind::Oci(oci))
            }
            _ => return fields.text("from"),
        };
        // Of one that an included file names: where the recipe includes it.
        let line = self.including.line.unwrap_or_else(|| self.source.line(place.start));
        self.named.insert(name.clone());
        self.images.entry(name.clone()).or_insert_with(|| Stage {
            name: name.clone(),
            line,
            base: Base { line, kind, modes: Modes::default() },
            steps: vec![],
        });
        Some(name)
    }
}
