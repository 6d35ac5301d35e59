//! The steps of an operation: an enum that *is* the persisted state, so a variant carries whatever its step needs.
//! Only unit and struct variants; no field may be called `step`, which is the tag.

/// The names of an operation's steps, as they are spelt in the code.
pub trait StepNames {
    const NAMES: &'static [&'static str];
    fn name(&self) -> &'static str;
}

/// Declares a `Step` enum, adds its serde tag and implements [`StepNames`].
#[macro_export]
macro_rules! steps {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident {
            $( $(#[$variant_meta:meta])* $variant:ident $({ $($body:tt)* })? ),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[serde(tag = "step", rename_all = "snake_case")]
        $vis enum $name {
            $( $(#[$variant_meta])* $variant $({ $($body)* })? ),+
        }

        impl $crate::StepNames for $name {
            const NAMES: &'static [&'static str] = &[$(stringify!($variant)),+];
            fn name(&self) -> &'static str {
                match self {
                    $( Self::$variant { .. } => stringify!($variant) ),+
                }
            }
        }
    };
}
