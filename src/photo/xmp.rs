//! XMP packets: what the camera and other programs wrote is kept, and how the picture was made is added.

use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};
use quick_xml::name::{Namespace, ResolveResult};
use quick_xml::{NsReader, Writer};

/// How a picture came to be, in the vocabulary of the IPTC (<https://cv.iptc.org/newscodes/digitalsourcetype/>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigitalSource {
    /// A photo with parts made by a trained model.
    CompositeWithTrainedAlgorithmicMedia,
    /// Made by a trained model throughout.
    TrainedAlgorithmicMedia,
}

impl DigitalSource {
    pub fn uri(self) -> &'static str {
        match self {
            Self::CompositeWithTrainedAlgorithmicMedia => {
                "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
            }
            Self::TrainedAlgorithmicMedia => "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
        }
    }
}

const RDF: &[u8] = b"http://www.w3.org/1999/02/22-rdf-syntax-ns#";
const IPTC_EXTENSION: &[u8] = b"http://iptc.org/std/Iptc4xmpExt/2008-02-29/";
const TIFF: &[u8] = b"http://ns.adobe.com/tiff/1.0/";
const BASIC: &[u8] = b"http://ns.adobe.com/xap/1.0/";
const SOURCE_TYPE: &[u8] = b"DigitalSourceType";
const NOTE: &[u8] = b"http://ns.adobe.com/xmp/note/";

/// A packet with a statement on how the picture was made, and nothing else.
pub fn statement(source: DigitalSource) -> Vec<u8> {
    let packet = format!(
        "<?xpacket begin=\"\u{feff}\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>\n\
         <x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">\
         <rdf:Description rdf:about=\"\" xmlns:Iptc4xmpExt=\"http://iptc.org/std/Iptc4xmpExt/2008-02-29/\">\
         <Iptc4xmpExt:DigitalSourceType>{}</Iptc4xmpExt:DigitalSourceType>\
         </rdf:Description></rdf:RDF></x:xmpmeta>\n<?xpacket end=\"w\"?>",
        source.uri()
    );
    packet.into_bytes()
}

/// What a packet says of the part that a trained model had in a picture, in either way to write a property.
pub fn source(packet: &[u8]) -> Option<DigitalSource> {
    let mut reader = NsReader::from_str(std::str::from_utf8(packet).ok()?.trim_end_matches('\0'));
    let known = |uri: &str| {
        let all = [DigitalSource::TrainedAlgorithmicMedia, DigitalSource::CompositeWithTrainedAlgorithmicMedia];
        all.into_iter().find(|source| source.uri() == uri.trim())
    };
    let mut inside = false;
    loop {
        match reader.read_event().ok()? {
            Event::Eof => return None,
            Event::Start(start) | Event::Empty(start) => {
                inside = is(reader.resolver().resolve_element(start.name()), IPTC_EXTENSION, SOURCE_TYPE);
                for attribute in start.attributes().flatten() {
                    let is_source = is(reader.resolver().resolve_attribute(attribute.key), IPTC_EXTENSION, SOURCE_TYPE);
                    // `inside`: as the element's `rdf:resource`.
                    let stated = std::str::from_utf8(&attribute.value).ok().filter(|_| is_source || inside).and_then(known);
                    if stated.is_some() {
                        return stated;
                    }
                }
            }
            Event::Text(text) if inside => {
                let stated = std::str::from_utf8(&text).ok().and_then(known);
                if stated.is_some() {
                    return stated;
                }
            }
            _ => {}
        }
    }
}

/// A photo's own packet for its upright copy: without orientation, size and previews, which are no longer true, and with a
/// statement in place of any other, if one is given. `None` if the packet cannot be read.
pub fn rewritten(packet: &[u8], source: Option<DigitalSource>) -> Option<Vec<u8>> {
    // Padding and a closing zero are common.
    let text = std::str::from_utf8(packet).ok()?.trim_end_matches('\0');
    let mut reader = NsReader::from_str(text);
    let mut writer = Writer::new(Vec::with_capacity(packet.len() + 512));
    let mut about = None;
    let mut closed = false;
    loop {
        let event = reader.read_event().ok()?;
        match event {
            Event::Eof => break,
            Event::Start(start) => {
                if is_dropped(reader.resolver().resolve_element(start.name()), source) {
                    reader.read_to_end(start.name()).ok()?;
                    continue;
                }
                let kept = without_dropped(&reader, &start, source, &mut about)?;
                writer.write_event(Event::Start(kept)).ok()?;
            }
            Event::Empty(start) => {
                if !is_dropped(reader.resolver().resolve_element(start.name()), source) {
                    let kept = without_dropped(&reader, &start, source, &mut about)?;
                    writer.write_event(Event::Empty(kept)).ok()?;
                }
            }
            Event::End(end) => {
                if is(reader.resolver().resolve_element(end.name()), RDF, b"RDF") {
                    closed = true;
                    if let Some(source) = source {
                        write_statement(&mut writer, end.name().prefix().map(|p| p.into_inner()), about.as_deref(), source)?;
                    }
                }
                writer.write_event(Event::End(end)).ok()?;
            }
            // Nothing in XMP needs entities of its own, and a document type could hold some.
            Event::DocType(_) => return None,
            other => writer.write_event(other).ok()?,
        }
    }
    closed.then(|| writer.into_inner())
}

type Resolved<'a> = (ResolveResult<'a>, quick_xml::name::LocalName<'a>);

fn is((namespace, local): Resolved, wanted: &[u8], name: &[u8]) -> bool {
    namespace == ResolveResult::Bound(Namespace(wanted)) && local.as_ref() == name
}

fn is_dropped((namespace, local): Resolved, source: Option<DigitalSource>) -> bool {
    let ResolveResult::Bound(Namespace(namespace)) = namespace else { return false };
    match (namespace, local.as_ref()) {
        (n, b"Orientation" | b"ImageWidth" | b"ImageLength") => n == TIFF,
        (n, b"Thumbnails") => n == BASIC,
        // The rest of a long packet lies elsewhere in a JPEG and is not read.
        (n, b"HasExtendedXMP") => n == NOTE,
        (n, SOURCE_TYPE) => n == IPTC_EXTENSION && source.is_some(),
        _ => false,
    }
}

/// An element without the attributes that are dropped; remembers the first `rdf:about`.
fn without_dropped(
    reader: &NsReader<&[u8]>,
    start: &BytesStart,
    source: Option<DigitalSource>,
    about: &mut Option<Vec<u8>>,
) -> Option<BytesStart<'static>> {
    let mut kept = BytesStart::new(String::from_utf8(start.name().as_ref().to_vec()).ok()?);
    for attribute in start.attributes() {
        let attribute = attribute.ok()?;
        let resolved = reader.resolver().resolve_attribute(attribute.key);
        if is_dropped(resolved.clone(), source) {
            continue;
        }
        if about.is_none() && is(resolved, RDF, b"about") {
            *about = Some(attribute.value.to_vec());
        }
        kept.push_attribute(attribute);
    }
    Some(kept)
}

/// A description of its own, which XMP allows, so that the others need not be understood. All have to be about the same thing.
fn write_statement(writer: &mut Writer<Vec<u8>>, rdf: Option<&[u8]>, about: Option<&[u8]>, source: DigitalSource) -> Option<()> {
    let prefixed = |name: &str| match rdf.and_then(|p| std::str::from_utf8(p).ok()) {
        Some(prefix) => format!("{prefix}:{name}"),
        None => name.to_owned(),
    };
    // Attributes have no namespace without a prefix, so this one is always written out.
    let mut description = BytesStart::new(prefixed("Description"));
    description.push_attribute(("xmlns:rdf", std::str::from_utf8(RDF).ok()?));
    // Already escaped, so it goes in as it came.
    description.push_attribute((&b"rdf:about"[..], about.unwrap_or_default()));
    description.push_attribute(("xmlns:Iptc4xmpExt", std::str::from_utf8(IPTC_EXTENSION).ok()?));
    writer.write_event(Event::Start(description)).ok()?;
    writer.write_event(Event::Start(BytesStart::new("Iptc4xmpExt:DigitalSourceType"))).ok()?;
    writer.write_event(Event::Text(BytesText::new(source.uri()))).ok()?;
    writer.write_event(Event::End(BytesEnd::new("Iptc4xmpExt:DigitalSourceType"))).ok()?;
    writer.write_event(Event::End(BytesEnd::new(prefixed("Description")))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAMERA: &str = r#"<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="uuid:1&amp;2" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" tiff:Orientation="6" tiff:Make="Maker" e:DigitalSourceType="digitalCapture">
<dc:creator><rdf:Seq><rdf:li>A &amp; B</rdf:li></rdf:Seq></dc:creator><tiff:Orientation>6</tiff:Orientation>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"#;

    fn text(packet: Option<Vec<u8>>) -> String {
        String::from_utf8(packet.expect("a readable packet")).unwrap()
    }

    #[test]
    fn what_is_known_stays_and_what_is_untrue_goes() {
        let out = text(rewritten(CAMERA.as_bytes(), Some(DigitalSource::CompositeWithTrainedAlgorithmicMedia)));
        for kept in ["tiff:Make=\"Maker\"", "A &amp; B", "compositeWithTrainedAlgorithmicMedia"] {
            assert!(out.contains(kept), "{kept} is missing from {out}");
        }
        assert_eq!(out.matches("uuid:1&amp;2").count(), 2, "both descriptions are about the same: {out}");
        for gone in ["Orientation", "digitalCapture"] {
            assert!(!out.contains(gone), "{gone} is still in {out}");
        }
        assert_eq!(out.matches("DigitalSourceType>").count(), 2, "one statement: {out}");
        let again = text(rewritten(out.as_bytes(), Some(DigitalSource::CompositeWithTrainedAlgorithmicMedia)));
        assert_eq!(again.matches("DigitalSourceType>").count(), 2, "still one statement: {again}");
    }

    #[test]
    fn without_a_statement_the_old_one_stays() {
        let out = text(rewritten(CAMERA.as_bytes(), None));
        assert!(out.contains("digitalCapture") && !out.contains("Orientation"), "{out}");
    }

    #[test]
    fn a_new_packet_can_be_read_again() {
        for source in [DigitalSource::TrainedAlgorithmicMedia, DigitalSource::CompositeWithTrainedAlgorithmicMedia] {
            assert_eq!(self::source(&statement(source)), Some(source));
            assert_eq!(self::source(&rewritten(CAMERA.as_bytes(), Some(source)).unwrap()), Some(source));
            let attribute = CAMERA.replace("digitalCapture", source.uri());
            assert_eq!(self::source(attribute.as_bytes()), Some(source));
            let resource = String::from_utf8(statement(source)).unwrap();
            let resource = resource.replace(
                &format!("DigitalSourceType>{}</Iptc4xmpExt:DigitalSourceType", source.uri()),
                &format!("DigitalSourceType rdf:resource=\"{}\"/", source.uri()),
            );
            assert_eq!(self::source(resource.as_bytes()), Some(source), "{resource}");
        }
        assert_eq!(self::source(CAMERA.as_bytes()), None);
        let packet = statement(DigitalSource::TrainedAlgorithmicMedia);
        assert!(text(rewritten(&packet, None)).contains("/trainedAlgorithmicMedia"));
    }

    #[test]
    fn rubbish_is_refused() {
        for rubbish in ["", "<a", "<rdf:RDF>", "<!DOCTYPE x [<!ENTITY a \"b\">]><x/>", "no markup"] {
            assert_eq!(rewritten(rubbish.as_bytes(), None), None, "{rubbish:?}");
        }
        assert_eq!(rewritten(&[0xff, 0xfe, 0], None), None);
    }
}
