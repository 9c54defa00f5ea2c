"""The only place that turns config into objects."""

from bulba.config.resolvers import register

register()
