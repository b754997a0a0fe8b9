//! Which node this agent's token belongs to: the API server itself says it.

use std::collections::BTreeMap;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::{Api, Client};

use super::Trouble;

const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const NODE_UID: &str = "authentication.kubernetes.io/node-uid";

type Extra = BTreeMap<String, Vec<String>>;

/// The UID of the node. `given` stands in for an identity that has none.
pub async fn node_uid(client: &Client, name: &str, given: Option<&str>) -> Result<String, Trouble> {
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let extra = match reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await {
        Ok(review) => review.status.and_then(|status| status.user_info).and_then(|user| user.extra),
        // The API server answers, but not this.
        Err(kube::Error::Api(status)) if given.is_some() && matches!(status.code, 403 | 404) => None,
        Err(error) => return Err(Trouble::of(&error)),
    };
    uid_of(&extra.unwrap_or_default(), name, given)
}

fn uid_of(extra: &Extra, name: &str, given: Option<&str>) -> Result<String, Trouble> {
    let one = |key: &str| match extra.get(key).map(Vec::as_slice) {
        Some([value]) => Some(value.as_str()),
        _ => None,
    };
    if let Some(token) = one(NODE_NAME).filter(|token| *token != name) {
        return Err(Trouble::IdentityMismatch { token: token.to_owned(), own: name.to_owned() });
    }
    one(NODE_UID).or(given).map(str::to_owned).ok_or(Trouble::IdentityUnknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_says_which_node_this_is() {
        let extra = |name: &str| -> Extra {
            [(NODE_NAME, name), (NODE_UID, "u1")].map(|(key, value)| (key.into(), vec![value.into()])).into()
        };
        assert_eq!(uid_of(&extra("n1"), "n1", Some("u2")), Ok("u1".to_owned()), "the token comes first");
        assert_eq!(uid_of(&extra("n2"), "n1", None).unwrap_err().reason(), "IdentityMismatch");
        assert_eq!(uid_of(&Extra::new(), "n1", Some("u2")), Ok("u2".to_owned()));
        assert_eq!(uid_of(&Extra::new(), "n1", None), Err(Trouble::IdentityUnknown));
    }
}
