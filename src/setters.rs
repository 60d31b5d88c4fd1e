//! A macro for the setters of options: `GcOptions::default().dry_run(true)`. Options are `#[non_exhaustive]`, so that
//! a release can add one; a program outside the crate cannot write them as a struct literal.

/// Gives a type one setter for each named field. `field: Type` sets it as it is; `field: Type => value` sets it to
/// `value`, in which `field` is the argument.
macro_rules! setters {
    ($options:ident$(<$life:lifetime>)? { $($field:ident: $type:ty $(=> $value:expr)?),+ $(,)? }) => {
        impl$(<$life>)? $options$(<$life>)? {$(
            #[doc = concat!("Sets [`", stringify!($field), "`](Self#structfield.", stringify!($field), ").")]
            #[must_use = "the options are returned, not changed in place"]
            pub fn $field(mut self, $field: $type) -> Self {
                self.$field = $crate::setters::setters!(@value $field $($value)?);
                self
            }
        )+}
    };
    (@value $field:ident) => { $field };
    (@value $field:ident $value:expr) => { $value };
}
pub(crate) use setters;
