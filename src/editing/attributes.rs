//! Plain names and groups for the CelebA attributes.

/// Where a slider is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    Expression,
    FaceAndAge,
    Hair,
    Beard,
    MakeUpAndAccessories,
    Other,
}

impl Group {
    pub const ALL: [Self; 6] = [Self::Expression, Self::FaceAndAge, Self::Hair, Self::Beard, Self::MakeUpAndAccessories, Self::Other];

    pub fn title(self) -> &'static str {
        match self {
            Self::Expression => "Expression",
            Self::FaceAndAge => "Face and age",
            Self::Hair => "Hair",
            Self::Beard => "Beard",
            Self::MakeUpAndAccessories => "Make-up and accessories",
            Self::Other => "Other",
        }
    }
}

/// An attribute as a person would call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    pub label: String,
    pub group: Group,
}

/// The plain name and group of an attribute; unknown names are shown with spaces, under [`Group::Other`].
pub fn describe(name: &str) -> Attribute {
    use Group::{Beard, Expression, FaceAndAge, Hair, MakeUpAndAccessories, Other};
    let known = match name {
        "Smiling" => ("Smile", Expression),
        "Mouth_Slightly_Open" => ("Open mouth", Expression),
        "Narrow_Eyes" => ("Narrow eyes", Expression),
        "High_Cheekbones" => ("High cheekbones", Expression),
        "Young" => ("Young", FaceAndAge),
        "Male" => ("Masculine", FaceAndAge),
        "Chubby" => ("Chubby", FaceAndAge),
        "Double_Chin" => ("Double chin", FaceAndAge),
        "Oval_Face" => ("Oval face", FaceAndAge),
        "Big_Nose" => ("Big nose", FaceAndAge),
        "Pointy_Nose" => ("Pointy nose", FaceAndAge),
        "Big_Lips" => ("Full lips", FaceAndAge),
        "Bags_Under_Eyes" => ("Bags under eyes", FaceAndAge),
        "Pale_Skin" => ("Pale skin", FaceAndAge),
        "Attractive" => ("Attractive", FaceAndAge),
        "Bangs" => ("Fringe", Hair),
        "Bald" => ("Bald", Hair),
        "Receding_Hairline" => ("Receding hairline", Hair),
        "Black_Hair" => ("Black hair", Hair),
        "Blond_Hair" => ("Blond hair", Hair),
        "Brown_Hair" => ("Brown hair", Hair),
        "Gray_Hair" => ("Grey hair", Hair),
        "Straight_Hair" => ("Straight hair", Hair),
        "Wavy_Hair" => ("Wavy hair", Hair),
        "Arched_Eyebrows" => ("Arched eyebrows", Hair),
        "Bushy_Eyebrows" => ("Bushy eyebrows", Hair),
        "No_Beard" => ("Clean-shaven", Beard),
        "5_o_Clock_Shadow" => ("Stubble", Beard),
        "Goatee" => ("Goatee", Beard),
        "Mustache" => ("Moustache", Beard),
        "Sideburns" => ("Sideburns", Beard),
        "Eyeglasses" => ("Glasses", MakeUpAndAccessories),
        "Heavy_Makeup" => ("Make-up", MakeUpAndAccessories),
        "Rosy_Cheeks" => ("Rosy cheeks", MakeUpAndAccessories),
        "Wearing_Lipstick" => ("Lipstick", MakeUpAndAccessories),
        "Wearing_Earrings" => ("Earrings", MakeUpAndAccessories),
        "Wearing_Hat" => ("Hat", MakeUpAndAccessories),
        "Wearing_Necklace" => ("Necklace", MakeUpAndAccessories),
        "Wearing_Necktie" => ("Tie", MakeUpAndAccessories),
        "Blurry" => ("Blurry", Other),
        _ => return Attribute { label: name.replace('_', " "), group: Other },
    };
    Attribute { label: known.0.into(), group: known.1 }
}

/// The attribute that a person means by `text`: its own name or its plain name, in any case, with spaces, dashes or underscores;
/// the start of a name does where only one has it ("smil").
pub fn find<'a>(text: &str, attributes: &'a [String]) -> Option<&'a str> {
    let plain = |s: &str| s.to_lowercase().replace(['_', '-'], " ");
    let wanted = plain(text.trim());
    let names = |a: &str| [plain(a), plain(&describe(a).label)];
    let exact = attributes.iter().find(|a| names(a).contains(&wanted));
    let mut starting = attributes.iter().filter(|a| !wanted.is_empty() && names(a).iter().any(|n| n.starts_with(&wanted)));
    exact.or_else(|| starting.next().filter(|_| starting.next().is_none())).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::import::CELEBA_ATTRIBUTES;

    #[test]
    fn every_attribute_has_its_own_label() {
        let labels: std::collections::HashSet<String> = CELEBA_ATTRIBUTES.iter().map(|a| describe(a).label).collect();
        assert_eq!(labels.len(), 40);
    }

    #[test]
    fn people_name_attributes_in_many_ways() {
        let all: Vec<String> = CELEBA_ATTRIBUTES.map(str::to_owned).to_vec();
        for (text, want) in
            [("smiling", "Smiling"), ("Smile", "Smiling"), ("blond-hair", "Blond_Hair"), ("glasses", "Eyeglasses"), ("you", "Young")]
        {
            assert_eq!(find(text, &all), Some(want), "{text}");
        }
        assert_eq!(find("wearing", &all), None, "several match");
        assert_eq!(find("", &all), None);
    }
}
