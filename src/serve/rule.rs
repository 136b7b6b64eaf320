//! The one thing that a web server cannot see in a registry of files: which media types manifests
//! have. Clients take a manifest for what its `Content-Type` says.

use std::fmt::Write as _;

use super::view::View;
use crate::image::{MEDIA_INDEX, MEDIA_MANIFEST};

/// Files with the rule, and what they hold.
pub(super) fn rules(view: &View) -> [(&'static str, String); 3] {
    let manifest = "^/v2/.+/manifests/[^/]+$".to_owned();
    let mut types =
        vec![(manifest, MEDIA_MANIFEST), ("^/v2/.+/referrers/".to_owned(), MEDIA_INDEX)];
    types.extend(others(view));
    let (mut nginx, mut apache, mut caddy) = (String::new(), String::new(), String::new());
    // Written to strings, which take everything. nginx takes the first expression that fits, the
    // others the last one.
    for (pattern, media_type) in types.iter().rev() {
        let _ = writeln!(
            nginx,
            "location ~ \"{pattern}\" {{\n    types {{ }}\n    default_type {media_type};\n}}"
        );
    }
    for (n, (pattern, media_type)) in types.iter().enumerate() {
        let _ = writeln!(
            apache,
            "<LocationMatch \"{pattern}\">\n    ForceType {media_type}\n</LocationMatch>"
        );
        let _ = writeln!(
            caddy,
            "@type{n} path_regexp {pattern}\nheader @type{n} Content-Type {media_type}"
        );
    }
    [
        ("nginx.conf", format!("# In `server`, beside `root` and `index index.html`.\n{nginx}")),
        ("apache.conf", format!("# In `VirtualHost`, beside `DocumentRoot`.\n{apache}")),
        ("Caddyfile", format!("# In a site, beside `root` and `file_server`.\n{caddy}")),
    ]
}

/// Manifests of other types than images, such as indexes of several platforms, as one expression a
/// type.
fn others(view: &View) -> Vec<(String, &str)> {
    let mut found: Vec<(&str, Vec<String>)> = vec![];
    for (name, repository) in &view.names {
        let tags = repository.tags.iter().map(|(tag, manifest)| (tag.clone(), manifest));
        let digests = repository.manifests.iter().map(|(digest, one)| (digest.to_string(), one));
        for (reference, manifest) in tags.chain(digests) {
            if manifest.media_type == MEDIA_MANIFEST {
                continue;
            }
            // Of what a name, a tag and a digest may have only the dot means something else.
            let place = format!("{name}/manifests/{reference}").replace('.', "[.]");
            match found.iter_mut().find(|(media_type, _)| *media_type == manifest.media_type) {
                Some((_, places)) => places.push(place),
                None => found.push((&manifest.media_type, vec![place])),
            }
        }
    }
    let all = |places: Vec<String>| format!("^/v2/({})$", places.join("|"));
    found.into_iter().map(|(media_type, places)| (all(places), media_type)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::image::Descriptor;
    use crate::serve::view::Repository;

    #[test]
    fn every_manifest_has_its_type() {
        let mut repository = Repository::default();
        for (tag, media_type) in [("1.0", MEDIA_MANIFEST), ("2.0", MEDIA_INDEX)] {
            let manifest = Descriptor::new(media_type, Digest::of(tag), 1);
            repository.tags.insert(tag.to_owned(), manifest.clone());
            repository.manifests.insert(manifest.digest, manifest);
        }
        let mut view = View::default();
        view.names.insert("team/web".to_owned(), repository);
        let [nginx, apache, caddy] = rules(&view);
        let digest = Digest::of("2.0");
        let index = format!("^/v2/(team/web/manifests/2[.]0|team/web/manifests/{digest})$");
        let at = |text: &str, what: &str| text.find(what).unwrap_or_else(|| panic!("{text}"));
        for (_, text) in [&nginx, &apache, &caddy] {
            assert_eq!(text.matches(MEDIA_INDEX).count(), 2, "{text}");
            assert_eq!(text.matches(MEDIA_MANIFEST).count(), 1, "{text}");
        }
        let all = "^/v2/.+/manifests/";
        assert!(at(&nginx.1, &index) < at(&nginx.1, all), "nginx takes the first");
        assert!(at(&apache.1, &index) > at(&apache.1, all), "Apache takes the last");
        assert!(at(&caddy.1, &index) > at(&caddy.1, all), "Caddy takes the last");
    }
}
