"""The settings of enforcement: the policy, what strikes lead to, how fast appeals are answered, who is who, mail."""

from typing import Literal

from pydantic import Field, model_validator

from mutirao.section import Section, from_environment


class Policy(Section):
    """Which shipped policy version is adopted at the first start."""

    version: int = Field(2, ge=1, description="Version in force from the first start; later: mutirao policy adopt.")


class Cases(Section):
    """What follows from a case; docs/why/cases.md tells why these numbers."""

    strike_days: int = Field(90, ge=1, le=366, description="A strike is gone after so many days.")
    strikes_a_day: int = Field(1, ge=1, description="A member gets so many strikes a day at most, whatever is stopped.")
    gpu_strikes: int = Field(2, ge=1, description="Live strikes at which GPUs are restricted.")
    gpu_days: int = Field(7, ge=1, description="For so many days.")
    compute_strikes: int = Field(3, ge=2, description="Live strikes at which running code is restricted.")
    compute_days: int = Field(3, ge=1, description="For so many days; doubled with each further strike.")
    longest_days: int = Field(30, ge=1, le=366, description="No restriction by a machine lasts longer.")
    longest_suspension_days: int = Field(366, ge=1, le=3660, description="No restriction by a person lasts longer.")
    appeal_answer_days: float = Field(
        7, gt=0, description="An appeal not answered by then lifts the restriction, unless harm was in progress."
    )
    appeals_per_decision: int = Field(2, ge=1, description="So often may one decision be appealed, one at a time.")
    appeals_per_member: int = Field(5, ge=1, description="So many appeals may one member have open.")
    appeals_flood: int = Field(50, ge=1, description="With more appeals open than this, that clock pauses, visibly.")
    incident_people: int = Field(
        5, ge=2, description="One cause that hits so many established people opens an incident."
    )
    incident_window_h: float = Field(24, gt=0, description="Within so many hours.")
    established_days: int = Field(14, ge=0, description="An account this old is established, if it was used.")
    established_active_days: int = Field(3, ge=1, description="On so many days, at least.")
    exemption_days: int = Field(180, ge=1, le=1830, description="The longest an exemption or an answer holds.")
    reports_per_source: int = Field(5, ge=1, description="Reports that one source may send a day.")
    reports_per_day: int = Field(200, ge=1, description="Reports that are taken a day, from all sources.")

    @model_validator(mode="after")
    def _ascending(self) -> "Cases":
        if self.compute_strikes <= self.gpu_strikes:
            raise ValueError("needs compute_strikes above gpu_strikes: GPUs first, then running code")
        return self


class Roles(Section):
    """JupyterHub groups that make somebody a reviewer, operator or auditor; hub administrators are operators."""

    reviewers: str = Field("mutirao-reviewers", min_length=1, description="Group whose members look at cases.")
    operators: str = Field("mutirao-operators", min_length=1, description="Group whose members run the service.")
    auditors: str = Field("mutirao-auditors", min_length=1, description="Group whose members read all, change nothing.")


class Mail(Section):
    """How notices go out by e-mail; with no host none is sent."""

    host: str = Field("", description="SMTP server; no mail is sent if empty.")
    port: int = Field(587, ge=1, le=65535, description="Its port.")
    security: Literal["starttls", "tls", "none"] = Field("starttls", description="starttls, tls or none.")
    user: str = Field("", description="Name to log in with; no login if empty.")
    password_env: str = Field("", description="Environment variable that holds the password.")
    sender: str = Field("", description="Address that notices come from; needed with host.")
    timeout_s: float = Field(20, gt=0, description="The server is given up after so long.")

    @model_validator(mode="after")
    def _sender(self) -> "Mail":
        if self.host and "@" not in self.sender:
            raise ValueError("needs sender, a mail address, when host is set")
        return self

    def variables(self) -> dict[str, str]:
        """The environment that the password comes in, for the part that sends mail."""
        return {self.password_env: self.password()} if self.password_env else {}

    def password(self) -> str:
        """The password from the environment; ConfigError where the named variable is not set."""
        return from_environment("mail.password_env", self.password_env) if self.password_env else ""
