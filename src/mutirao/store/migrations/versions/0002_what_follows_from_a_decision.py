"""What follows from a decision: strikes, sanctions, appeals, incidents, reports, letters; notice and decision bound."""

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MACHINES = "by <> 'machine' OR action IN ('allow', 'warn', 'hold', 'freeze', 'stop', 'restrict', 'suspend', 'lift')"


def _give_keys() -> None:
    """Every notice and decision so far gets a key, and every notice its decision's."""
    notice = sa.table("notice", sa.column("id"), sa.column("key"), sa.column("decided"))
    decision = sa.table("decision", sa.column("id"), sa.column("key"), sa.column("notice_id"))
    connection = op.get_bind()
    for (number,) in connection.execute(sa.select(notice.c.id)).all():
        connection.execute(notice.update().where(notice.c.id == number).values(key=uuid.uuid4().hex))
    for number, told in connection.execute(sa.select(decision.c.id, decision.c.notice_id)).all():
        key = uuid.uuid4().hex
        connection.execute(decision.update().where(decision.c.id == number).values(key=key))
        connection.execute(notice.update().where(notice.c.id == told).values(decided=key))


def upgrade() -> None:
    op.create_table(
        "incident",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("category", sa.String(), nullable=False),
        sa.Column("opened_at", sa.DateTime(), nullable=False),
        sa.Column("people", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("closed_at", sa.DateTime(), nullable=True),
        sa.Column("closed_by", sa.String(), nullable=True),
        sa.Column("why", sa.String(), nullable=True),
        sa.CheckConstraint(
            "closed_at IS NULL OR closed_by <> 'machine'", name=op.f("ck_incident_closing_needs_a_person")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incident")),
    )
    with op.batch_alter_table("incident", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_incident_cause"), ["cause"], unique=False)
        batch_op.create_index(
            "uq_incident_open",
            ["cause"],
            unique=True,
            sqlite_where=sa.text("closed_at IS NULL"),
            postgresql_where=sa.text("closed_at IS NULL"),
        )

    op.create_table(
        "member",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(), nullable=False),
        sa.Column("last_seen_on", sa.Date(), nullable=False),
        sa.Column("active_days", sa.Integer(), nullable=False),
        sa.Column("person", sa.String(), nullable=True),
        sa.Column("mail", sa.String(), nullable=True),
        sa.Column("lang", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_member")),
    )
    op.create_table(
        "pause",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("what", sa.String(), nullable=False),
        sa.Column("since", sa.DateTime(), nullable=False),
        sa.Column("until", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pause")),
    )
    with op.batch_alter_table("pause", schema=None) as batch_op:
        batch_op.create_index(
            "uq_pause_open",
            ["what"],
            unique=True,
            sqlite_where=sa.text("until IS NULL"),
            postgresql_where=sa.text("until IS NULL"),
        )

    op.create_table(
        "report",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("case_id", sa.Integer(), nullable=False),
        sa.Column("token_hash", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("contact", sa.String(length=200), nullable=False),
        sa.Column("category", sa.String(), nullable=False),
        sa.Column("text", sa.String(length=4000), nullable=False),
        sa.Column("linked_at", sa.DateTime(), nullable=True),
        sa.Column("linked_by", sa.String(), nullable=True),
        sa.Column("closed_at", sa.DateTime(), nullable=True),
        sa.Column("closed_by", sa.String(), nullable=True),
        sa.Column("answer", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["case_id"], ["case.id"], name=op.f("fk_report_case_id_case")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_report")),
        sa.UniqueConstraint("case_id", name=op.f("uq_report_case_id")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_report_token_hash")),
    )
    with op.batch_alter_table("report", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_report_at"), ["at"], unique=False)

    op.create_table(
        "letter",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("notice_id", sa.Integer(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(), nullable=False),
        sa.Column("done_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(["notice_id"], ["notice.id"], name=op.f("fk_letter_notice_id_notice")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_letter")),
        sa.UniqueConstraint("notice_id", "channel", name=op.f("uq_letter_notice_id")),
    )
    with op.batch_alter_table("letter", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_letter_due_at"), ["due_at"], unique=False)

    op.create_table(
        "appeal",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("case_id", sa.Integer(), nullable=False),
        sa.Column("decision_id", sa.Integer(), nullable=False),
        sa.Column("member", sa.String(), nullable=False),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("text", sa.String(length=2000), nullable=False),
        sa.Column("opened_at", sa.DateTime(), nullable=False),
        sa.Column("due_at", sa.DateTime(), nullable=False),
        sa.Column("lapsed_at", sa.DateTime(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("answered_at", sa.DateTime(), nullable=True),
        sa.Column("answered_by", sa.String(), nullable=True),
        sa.Column("answer", sa.String(), nullable=True),
        sa.Column("answer_decision_id", sa.Integer(), nullable=True),
        sa.Column("given_back_s", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "answered_by IS NULL OR (answered_by <> member AND answered_by <> author AND answered_by <> 'machine')",
            name=op.f("ck_appeal_another_person_answers"),
        ),
        sa.CheckConstraint(
            "(answered_at IS NULL) = (answered_by IS NULL) AND (answered_at IS NULL) = (outcome IS NULL)",
            name=op.f("ck_appeal_an_answer_is_whole"),
        ),
        sa.ForeignKeyConstraint(
            ["answer_decision_id"], ["decision.id"], name=op.f("fk_appeal_answer_decision_id_decision")
        ),
        sa.ForeignKeyConstraint(["case_id"], ["case.id"], name=op.f("fk_appeal_case_id_case")),
        sa.ForeignKeyConstraint(["decision_id"], ["decision.id"], name=op.f("fk_appeal_decision_id_decision")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_appeal")),
    )
    with op.batch_alter_table("appeal", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_appeal_case_id"), ["case_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_appeal_decision_id"), ["decision_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_appeal_member"), ["member"], unique=False)
        batch_op.create_index(
            "uq_appeal_open",
            ["decision_id"],
            unique=True,
            sqlite_where=sa.text("answered_at IS NULL"),
            postgresql_where=sa.text("answered_at IS NULL"),
        )

    op.create_table(
        "sanction",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("case_id", sa.Integer(), nullable=False),
        sa.Column("decision_id", sa.Integer(), nullable=False),
        sa.Column("member", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("harm", sa.Boolean(), nullable=False),
        sa.Column("begins_at", sa.DateTime(), nullable=False),
        sa.Column("ends_at", sa.DateTime(), nullable=False),
        sa.Column("incident_id", sa.Integer(), nullable=True),
        sa.Column("lifted_at", sa.DateTime(), nullable=True),
        sa.Column("lifted_by", sa.String(), nullable=True),
        sa.Column("lifted_why", sa.String(), nullable=True),
        sa.Column("given_back_s", sa.Integer(), nullable=False),
        sa.CheckConstraint("scope <> 'account' OR by <> 'machine'", name=op.f("ck_sanction_suspension_needs_a_person")),
        sa.CheckConstraint("scope IN ('gpu', 'compute', 'account')", name=op.f("ck_sanction_scope_is_known")),
        sa.CheckConstraint("(lifted_at IS NULL) = (lifted_by IS NULL)", name=op.f("ck_sanction_lifting_has_a_name")),
        sa.CheckConstraint("ends_at > begins_at", name=op.f("ck_sanction_it_ends")),
        sa.ForeignKeyConstraint(["case_id"], ["case.id"], name=op.f("fk_sanction_case_id_case")),
        sa.ForeignKeyConstraint(["decision_id"], ["decision.id"], name=op.f("fk_sanction_decision_id_decision")),
        sa.ForeignKeyConstraint(["incident_id"], ["incident.id"], name=op.f("fk_sanction_incident_id_incident")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sanction")),
        sa.UniqueConstraint("decision_id", name=op.f("uq_sanction_decision_id")),
    )
    with op.batch_alter_table("sanction", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sanction_case_id"), ["case_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_sanction_cause"), ["cause"], unique=False)
        batch_op.create_index(batch_op.f("ix_sanction_ends_at"), ["ends_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_sanction_incident_id"), ["incident_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_sanction_member"), ["member"], unique=False)

    op.create_table(
        "strike",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("case_id", sa.Integer(), nullable=False),
        sa.Column("decision_id", sa.Integer(), nullable=False),
        sa.Column("member", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("ends_at", sa.DateTime(), nullable=False),
        sa.Column("incident_id", sa.Integer(), nullable=True),
        sa.Column("void_at", sa.DateTime(), nullable=True),
        sa.Column("void_by", sa.String(), nullable=True),
        sa.Column("void_why", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["case_id"], ["case.id"], name=op.f("fk_strike_case_id_case")),
        sa.ForeignKeyConstraint(["decision_id"], ["decision.id"], name=op.f("fk_strike_decision_id_decision")),
        sa.ForeignKeyConstraint(["incident_id"], ["incident.id"], name=op.f("fk_strike_incident_id_incident")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_strike")),
        sa.UniqueConstraint("case_id", name=op.f("uq_strike_case_id")),
    )
    with op.batch_alter_table("strike", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_strike_cause"), ["cause"], unique=False)
        batch_op.create_index(batch_op.f("ix_strike_decision_id"), ["decision_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_strike_incident_id"), ["incident_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_strike_member"), ["member"], unique=False)

    with op.batch_alter_table("case", schema=None) as batch_op:
        batch_op.add_column(sa.Column("origin", sa.String(), server_default="gate", nullable=False))

    for table in ("decision", "notice"):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.add_column(sa.Column("key", sa.String(), nullable=True))
            if table == "notice":
                batch_op.add_column(sa.Column("decided", sa.String(), nullable=True))
    _give_keys()
    with op.batch_alter_table("decision", schema=None) as batch_op:
        batch_op.alter_column("key", existing_type=sa.String(), nullable=False)
        batch_op.create_unique_constraint(op.f("uq_decision_key"), ["key"])
        batch_op.create_unique_constraint("uq_decision_key_notice_id", ["key", "notice_id"])
        batch_op.create_check_constraint(op.f("ck_decision_a_machine_answers_nobody"), MACHINES)

    with op.batch_alter_table("exemption", schema=None) as batch_op:
        batch_op.add_column(sa.Column("kind", sa.String(), server_default="exemption", nullable=False))
        batch_op.add_column(sa.Column("refused", sa.Boolean(), server_default=sa.false(), nullable=False))
        batch_op.add_column(sa.Column("case_id", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("answer", sa.String(), nullable=True))
        batch_op.create_foreign_key(batch_op.f("fk_exemption_case_id_case"), "case", ["case_id"], ["id"])
        batch_op.create_check_constraint(op.f("ck_exemption_a_person_answers"), "under_review OR by <> 'machine'")
        batch_op.create_check_constraint(op.f("ck_exemption_another_person_answers"), "under_review OR by <> member")

    with op.batch_alter_table("notice", schema=None) as batch_op:
        batch_op.alter_column("key", existing_type=sa.String(), nullable=False)
        batch_op.create_unique_constraint(op.f("uq_notice_key"), ["key"])
        batch_op.create_unique_constraint(op.f("uq_notice_decided"), ["decided"])
        batch_op.create_foreign_key(
            "fk_notice_decided_decision",
            "decision",
            ["decided", "id"],
            ["key", "notice_id"],
            deferrable=True,
            initially="DEFERRED",
        )
        batch_op.create_check_constraint(
            op.f("ck_notice_a_notice_has_its_decision"), "action = 'inform' OR decided IS NOT NULL"
        )

    with op.batch_alter_table("observation", schema=None) as batch_op:
        batch_op.add_column(sa.Column("cause", sa.String(), nullable=True))
        batch_op.create_index(batch_op.f("ix_observation_cause"), ["cause"], unique=False)
    # Who had a case before this version has been here at least since then.
    op.execute(
        "INSERT INTO member (name, first_seen_at, last_seen_on, active_days) "
        'SELECT member, min(opened_at), max(day), count(DISTINCT day) FROM "case" '
        "WHERE member IS NOT NULL GROUP BY member"
    )


def downgrade() -> None:
    with op.batch_alter_table("observation", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_observation_cause"))
        batch_op.drop_column("cause")

    with op.batch_alter_table("notice", schema=None) as batch_op:
        batch_op.drop_constraint(op.f("ck_notice_a_notice_has_its_decision"), type_="check")
        batch_op.drop_constraint("fk_notice_decided_decision", type_="foreignkey")
        batch_op.drop_constraint(batch_op.f("uq_notice_key"), type_="unique")
        batch_op.drop_constraint(batch_op.f("uq_notice_decided"), type_="unique")
        batch_op.drop_column("decided")
        batch_op.drop_column("key")

    with op.batch_alter_table("exemption", schema=None) as batch_op:
        batch_op.drop_constraint(op.f("ck_exemption_another_person_answers"), type_="check")
        batch_op.drop_constraint(op.f("ck_exemption_a_person_answers"), type_="check")
        batch_op.drop_constraint(batch_op.f("fk_exemption_case_id_case"), type_="foreignkey")
        batch_op.drop_column("answer")
        batch_op.drop_column("case_id")
        batch_op.drop_column("refused")
        batch_op.drop_column("kind")

    with op.batch_alter_table("decision", schema=None) as batch_op:
        batch_op.drop_constraint(op.f("ck_decision_a_machine_answers_nobody"), type_="check")
        batch_op.drop_constraint("uq_decision_key_notice_id", type_="unique")
        batch_op.drop_constraint(batch_op.f("uq_decision_key"), type_="unique")
        batch_op.drop_column("key")

    with op.batch_alter_table("case", schema=None) as batch_op:
        batch_op.drop_column("origin")

    with op.batch_alter_table("strike", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_strike_member"))
        batch_op.drop_index(batch_op.f("ix_strike_incident_id"))
        batch_op.drop_index(batch_op.f("ix_strike_decision_id"))
        batch_op.drop_index(batch_op.f("ix_strike_cause"))

    op.drop_table("strike")
    with op.batch_alter_table("sanction", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_sanction_member"))
        batch_op.drop_index(batch_op.f("ix_sanction_incident_id"))
        batch_op.drop_index(batch_op.f("ix_sanction_ends_at"))
        batch_op.drop_index(batch_op.f("ix_sanction_cause"))
        batch_op.drop_index(batch_op.f("ix_sanction_case_id"))

    op.drop_table("sanction")
    with op.batch_alter_table("appeal", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_appeal_open",
            sqlite_where=sa.text("answered_at IS NULL"),
            postgresql_where=sa.text("answered_at IS NULL"),
        )
        batch_op.drop_index(batch_op.f("ix_appeal_member"))
        batch_op.drop_index(batch_op.f("ix_appeal_decision_id"))
        batch_op.drop_index(batch_op.f("ix_appeal_case_id"))

    op.drop_table("appeal")
    with op.batch_alter_table("letter", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_letter_due_at"))

    op.drop_table("letter")
    with op.batch_alter_table("report", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_report_at"))

    op.drop_table("report")
    with op.batch_alter_table("pause", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_pause_open", sqlite_where=sa.text("until IS NULL"), postgresql_where=sa.text("until IS NULL")
        )

    op.drop_table("pause")
    op.drop_table("member")
    with op.batch_alter_table("incident", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_incident_open", sqlite_where=sa.text("closed_at IS NULL"), postgresql_where=sa.text("closed_at IS NULL")
        )
        batch_op.drop_index(batch_op.f("ix_incident_cause"))

    op.drop_table("incident")
